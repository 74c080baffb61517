import datetime

from datasets import Dataset, Features, Image, Json, List, Value

from lessexp.data.dataset_records import dataset_records


def test_records_are_those_of_the_data_set_in_its_order():
    records = [{"text": f"{i}\u2028", "number": i, "tags": [{"a": i}], "none": None} for i in range(3000)]
    dataset = Dataset.from_list(records)
    assert list(dataset_records(dataset)) == records
    assert [record["number"] for record in dataset_records(dataset.select([7, 2]))] == [7, 2]


def test_columns_of_mixed_types_give_what_the_data_set_gives():
    columns = {"mixed": [1, "two", None, [3]], "turns": [[{"a": 1}, "x"], [], None, [None]], "deep": [{"x": 5}] * 4}
    features = Features({"mixed": Json(), "turns": List(Json()), "deep": {"x": Json()}})
    dataset = Dataset.from_dict(columns, features=features)
    assert list(dataset_records(dataset)) == list(dataset)
    assert list(dataset)[1]["mixed"] == "two"


def test_images_are_not_decoded_and_dates_stay_dates():
    day = datetime.datetime(2026, 1, 2)
    features = Features({"image": Image(), "day": Value("timestamp[s]"), "mixed": Json()})
    dataset = Dataset.from_dict({"image": [b"no image"], "day": [day], "mixed": ["a"]}, features=features)
    assert list(dataset_records(dataset)) == [{"image": {"bytes": b"no image", "path": None}, "day": day, "mixed": "a"}]
