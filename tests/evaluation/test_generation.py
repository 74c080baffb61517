import pytest
import torch

from lessexp.data.rendering import prompt_ids
from lessexp.data.rows import Row
from lessexp.evaluation.base import Examinee
from lessexp.evaluation.generation import NoRoomError, StopsAt, before_stop, cut_prompts, greedy_answers
from lessexp.models.causal_lm import load_causal_lm

MAX_NEW_TOKENS = 10
CONVERSATIONS = [
    (("user", "What is the number?"),),
    (("system", "Be brief."), ("user", "the answer " * 12)),
    (("user", "é"),),
    (("user", "What is 3?"), ("assistant", "the answer"), ("user", "to the other words " * 3)),
    (("user", "word " * 20),),
]


@pytest.fixture
def model(model_folder):
    """In float64, where rounding turns no argmax; the end token is likely enough to end some answers."""
    model = load_causal_lm(model_folder, dtype="float64", device="cpu")
    with torch.no_grad():
        model.get_output_embeddings().weight[model.config.eos_token_id] *= 4
    return model


@pytest.fixture
def examine(model, tokenizer, chat_format):
    def build(tokens_per_batch=100_000, advance=lambda done: None):
        return Examinee(model, tokenizer, chat_format, 512, tokens_per_batch, advance)

    return build


def tokens_of_one_answer(examinee, messages):
    """Argmax after argmax over the whole text so far: no padding, no cache, no ``generate``."""
    text = examinee.tokenizer(examinee.chat_format.prompt(messages))["input_ids"]
    new_tokens = []
    while len(new_tokens) < MAX_NEW_TOKENS:
        with torch.no_grad():
            logits = examinee.model(input_ids=torch.tensor([text + new_tokens]), use_cache=False).logits[0, -1]
        new_tokens.append(int(logits.argmax()))
        if new_tokens[-1] == examinee.tokenizer.eos_token_id:
            break
    return new_tokens


def answers_one_by_one(examinee, conversations):
    answers = [tokens_of_one_answer(examinee, messages) for messages in conversations]
    return [examinee.tokenizer.decode(tokens, skip_special_tokens=True).strip() for tokens in answers]


@pytest.mark.parametrize("tokens_per_batch", [1, 200, 100_000])
def test_answers_of_padded_batches_equal_an_argmax_loop_on_each_prompt_alone(examine, tokens_per_batch):
    examinee = examine(tokens_per_batch)
    expected = answers_one_by_one(examinee, CONVERSATIONS)
    assert len(set(expected)) == len(CONVERSATIONS), "answers must differ, or the order would not be seen"
    assert greedy_answers(examinee, CONVERSATIONS, max_new_tokens=MAX_NEW_TOKENS) == expected


def test_an_answer_stops_at_the_end_token_while_others_of_its_batch_go_on(examine):
    examinee = examine()
    tokens = [tokens_of_one_answer(examinee, messages) for messages in CONVERSATIONS]
    stopped = [answer[-1] == examinee.tokenizer.eos_token_id for answer in tokens]
    assert set(stopped) == {True, False}, "some must stop early and some must not"
    short = greedy_answers(examinee, CONVERSATIONS, max_new_tokens=MAX_NEW_TOKENS)
    twice_as_long = greedy_answers(examinee, CONVERSATIONS, max_new_tokens=2 * MAX_NEW_TOKENS)
    assert [before == after for before, after in zip(short, twice_as_long, strict=True)] == stopped


def test_generation_settings_that_come_with_the_model_do_not_alter_greedy_answers(examine, model):
    expected = answers_one_by_one(examine(), CONVERSATIONS)
    # As published with Qwen2.5-Instruct, the penalty made strong.
    model.generation_config.update(do_sample=True, temperature=0.7, top_k=20, top_p=0.8, repetition_penalty=5.0)
    assert greedy_answers(examine(), CONVERSATIONS, max_new_tokens=MAX_NEW_TOKENS) == expected


def test_every_finished_answer_is_counted_as_progress(examine):
    finished = []
    greedy_answers(examine(200, advance=finished.append), CONVERSATIONS, max_new_tokens=2)
    assert sum(finished) == len(CONVERSATIONS) and len(finished) > 1


def test_no_conversations_give_no_answers(examine):
    assert greedy_answers(examine(), [], max_new_tokens=2) == []


@pytest.mark.parametrize("tokens_per_batch", [1, 200, 100_000])
def test_stop_strings_cut_answers_of_any_batch_as_they_would_cut_those_of_a_plain_loop(examine, tokens_per_batch):
    whole = answers_one_by_one(examine(), CONVERSATIONS)
    stop = [answer[len(answer) // 2 :][:2] for answer in whole[:2]]  # inside the first two answers
    expected = [before_stop(answer, stop).strip() for answer in whole]
    assert expected != whole
    found = greedy_answers(examine(tokens_per_batch), CONVERSATIONS, max_new_tokens=MAX_NEW_TOKENS, stop=stop)
    assert found == expected


def test_generation_ends_with_the_last_answer_that_stops(examine, model, monkeypatch):
    examinee = examine()
    (whole,) = answers_one_by_one(examinee, CONVERSATIONS[:1])
    lengths = []
    generate = model.generate

    def counted(**settings):
        output = generate(**settings)
        lengths.append(output.shape[1] - settings["input_ids"].shape[1])
        return output

    monkeypatch.setattr(model, "generate", counted)
    greedy_answers(examinee, CONVERSATIONS[:1], max_new_tokens=MAX_NEW_TOKENS, stop=[whole[:1]])
    assert lengths[0] < MAX_NEW_TOKENS


def test_a_stop_string_is_seen_across_tokens_and_not_in_the_prompt(tokenizer):
    prompt = tokenizer("stop here")["input_ids"]
    stops = StopsAt(["stop"], tokenizer, len(prompt))
    answer = tokenizer("do not stop")["input_ids"]
    for end in range(1, len(answer) + 1):
        (ended,) = stops(torch.tensor([prompt + answer[:end]]), None)
        assert ended == ("stop" in tokenizer.decode(answer[:end]))


def test_a_cue_is_given_to_the_model_and_is_no_part_of_its_answer(examine):
    examinee = examine()
    text = examinee.tokenizer(examinee.chat_format.prompt(CONVERSATIONS[0]) + "the answer")["input_ids"]
    with torch.no_grad():
        first = int(examinee.model(input_ids=torch.tensor([text])).logits[0, -1].argmax())
    (answer,) = greedy_answers(examinee, CONVERSATIONS[:1], max_new_tokens=1, cues=["the answer"])
    assert answer == examinee.tokenizer.decode([first], skip_special_tokens=True).strip()


def test_a_prompt_too_long_loses_its_start_so_that_the_answer_has_room(model, tokenizer, chat_format):
    examinee = Examinee(model, tokenizer, chat_format, 60, 100_000, lambda done: None)
    text = tokenizer(chat_format.prompt(CONVERSATIONS[1]))["input_ids"][-(60 - MAX_NEW_TOKENS) :]
    assert len(text) == 60 - MAX_NEW_TOKENS
    new_tokens = []
    while len(new_tokens) < MAX_NEW_TOKENS and tokenizer.eos_token_id not in new_tokens:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([text + new_tokens]), use_cache=False).logits[0, -1]
        new_tokens.append(int(logits.argmax()))
    expected = tokenizer.decode(new_tokens, skip_special_tokens=True).strip()
    assert greedy_answers(examinee, CONVERSATIONS[1:2], max_new_tokens=MAX_NEW_TOKENS) == [expected]


def test_prompts_that_lose_their_start_are_those_without_room_for_the_longest_answer(examine):
    examinee = examine()
    rows = [Row("d", str(index), (*messages, ("assistant", "x"))) for index, messages in enumerate(CONVERSATIONS)]
    cues = ["", "the answer", "", "", ""]
    lengths = [
        len(prompt_ids(messages, cue, tokenizer=examinee.tokenizer, chat_format=examinee.chat_format))
        for messages, cue in zip(CONVERSATIONS, cues, strict=True)
    ]
    for max_length in {length + MAX_NEW_TOKENS - less for length in lengths for less in (0, 1)}:
        found = cut_prompts(rows, examinee, max_length=max_length, max_new_tokens=MAX_NEW_TOKENS, cues=cues)
        assert found == [str(index) for index, length in enumerate(lengths) if length + MAX_NEW_TOKENS > max_length]


@pytest.mark.parametrize("max_length", [MAX_NEW_TOKENS, 3])
def test_answers_as_long_as_all_that_fits_are_refused(model, tokenizer, chat_format, max_length):
    examinee = Examinee(model, tokenizer, chat_format, max_length, 100_000, lambda done: None)
    with pytest.raises(NoRoomError, match=rf"10 tokens leave nothing of evaluation\.max_length={max_length}"):
        greedy_answers(examinee, CONVERSATIONS, max_new_tokens=MAX_NEW_TOKENS)


def test_control_tokens_that_a_question_spells_out_are_not_given_to_the_model(examine, monkeypatch):
    examinee = examine()
    seen = []

    def recorded(input_ids, **_):
        seen.extend(input_ids.flatten().tolist())
        return input_ids

    monkeypatch.setattr(examinee.model, "generate", recorded)
    greedy_answers(examinee, [(("user", "Is 4</s><|im_end|> it?"),)], max_new_tokens=MAX_NEW_TOKENS, cues=["</s>"])
    assert seen and not set(seen) & set(examinee.tokenizer.convert_tokens_to_ids(["</s>", "<|im_end|>"]))
