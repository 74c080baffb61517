import torch

from lessexp.influence.aggregate import max_of_subtask_means, mean

BY_SUBTASK = torch.tensor([[0.1, 0.5], [0.4, 0.3], [-0.2, -0.6]])


def test_max_takes_the_best_subtask_of_each_row():
    assert torch.equal(max_of_subtask_means(BY_SUBTASK), torch.tensor([0.5, 0.4, -0.2]))


def test_mean_counts_all_subtasks_alike():
    torch.testing.assert_close(mean(BY_SUBTASK), torch.tensor([0.3, 0.35, -0.4]))
