import pytest
import torch

from lightsans import LightSANs
from lightsans.model.compiled import compile_layers
from lightsans.training.trainer import Trainer
from tests.factories import sequences_of
from tests.models import WITHOUT_DROPOUT, small_config, small_model, small_run


def make_model() -> LightSANs:
    sizes = {"k_interests": 2, "n_layers": 1, "initializer_range": 0.5}
    return small_model(9, **sizes, **WITHOUT_DROPOUT)


def without_compiler(forward, **_):
    """Result of `torch.compile` on a machine that cannot: an error once it is called."""

    def fail(*args, **kwargs):
        raise OSError("backend raised:\n\nno C++ compiler\nlong trace")

    return fail


@pytest.mark.programs
@pytest.mark.filterwarnings("ignore:The .grad attribute")  # PyTorch's own, while it compiles
def test_compiled_layers_give_the_same_vectors_and_gradients():
    plain = make_model().train()
    fast = make_model().train()
    fast.load_state_dict(plain.state_dict())
    assert compile_layers(fast, "eager") is None
    assert all(p.grad is None for p in fast.parameters()), "the trial leaves nothing behind"
    item_ids, lengths = torch.randint(1, 10, (2, 3)), torch.full((2,), 3)
    for model in (plain, fast):
        model(item_ids, lengths, every_position=True).square().sum().backward()
    for (name, p), (_, q) in zip(plain.named_parameters(), fast.named_parameters(), strict=True):
        torch.testing.assert_close(q.grad, p.grad, rtol=1e-4, atol=1e-4, msg=name)
    torch.testing.assert_close(fast.encode(item_ids, lengths), plain.encode(item_ids, lengths))


def test_without_a_compiler_the_layers_stay_as_they_were(monkeypatch):
    monkeypatch.setattr(torch, "compile", without_compiler)
    model = make_model().eval()
    reason = compile_layers(model)
    assert reason is not None
    assert "no C++ compiler" in reason
    assert "long trace" not in reason
    assert all("forward" not in vars(layer) for layer in model.layers)
    assert not model.training
    assert model.encode(torch.tensor([[1]]), torch.tensor([1])).isfinite().all()


def test_training_goes_on_with_a_warning_that_names_the_reason(monkeypatch):
    monkeypatch.setattr(torch, "compile", without_compiler)
    config = small_run(small_config(n_layers=1), epochs=1, compile=True)
    with pytest.warns(UserWarning, match=r"train\.compile is set, but .*no C\+\+ compiler.*uncomp"):
        trainer = Trainer(config, 9, {0: sequences_of([1, 2, 3, 4, 5])}, torch.device("cpu"))
    assert trainer.run_epoch().loss > 0
