"""The learned temperature has one dimension; checkpoints of before, where it was a scalar, load as they are."""

import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_remote_code import run_without_package
from transformers import AutoModel, AutoModelForVisualQuestionAnswering, Trainer, TrainingArguments

from otmerge_hf import OTMergeForQuestionAnswering, OTMergeModel
from otmerge_hf.training import ContrastiveLossCallback


VALUE = 1.2345678


def make_old(folder):
    """Turn a saved merge into one of before: the scale a scalar."""
    path = folder / "model.safetensors"
    weights = load_file(path)
    (name,) = [name for name in weights if name.endswith("logit_scale.log_scale")]
    assert weights[name].shape == (1,)
    weights[name] = torch.tensor(VALUE)
    save_file(weights, path, metadata={"format": "pt"})
    return weights[name]


def scale_of(model):
    return getattr(model, "otmerge", model).logit_scale.log_scale


@pytest.fixture
def old(merge, tmp_path):
    merge().save_pretrained(tmp_path / "old")
    return tmp_path / "old", make_old(tmp_path / "old")


@pytest.mark.parametrize("auto", [AutoModel, AutoModelForVisualQuestionAnswering])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_from_pretrained(old, auto, dtype, tmp_path):
    folder, value = old
    model, info = auto.from_pretrained(folder, dtype=dtype, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["mismatched_keys"]
    assert torch.equal(scale_of(model).data, value.reshape(1).to(dtype or torch.float32))
    model.save_pretrained(tmp_path / "new")
    assert torch.equal(scale_of(auto.from_pretrained(tmp_path / "new")).data, scale_of(model).data)
    model.save_pretrained(tmp_path / "original", save_original_format=True)
    assert torch.equal(scale_of(auto.from_pretrained(tmp_path / "original")).data, scale_of(model).data)


def test_remote_code(old, batch, tmp_path):
    folder, value = old
    torch.save({"batch": batch}, tmp_path / "inputs.pt")
    code = """
with torch.no_grad():
    model = AutoModelForVisualQuestionAnswering.from_pretrained(folder, trust_remote_code=True)
    aligner = AutoModel.from_pretrained(folder, trust_remote_code=True)
    found = {"scale": model.otmerge.logit_scale.log_scale, "logits": model(**given["batch"]).logits,
             "logits_per_image": aligner(**given["batch"]).logits_per_image}
"""
    found = run_without_package(code, folder, tmp_path / "inputs.pt", tmp_path)
    model = AutoModelForVisualQuestionAnswering.from_pretrained(folder)
    assert torch.equal(found["scale"], value.reshape(1))
    with torch.no_grad():
        assert torch.equal(found["logits"], model(**batch).logits)
        assert torch.equal(found["logits_per_image"], model.otmerge(**batch).logits_per_image)


def test_plain_load_state_dict(old, merge):
    folder, value = old
    model = merge(seed=3)
    model.load_state_dict(load_file(folder / "model.safetensors"))
    assert torch.equal(scale_of(model).data, value.reshape(1))
    wrong = load_file(folder / "model.safetensors") | {"otmerge.logit_scale.log_scale": torch.zeros(2)}
    with pytest.raises(RuntimeError, match=r"size mismatch for otmerge.logit_scale.log_scale"):
        model.load_state_dict(wrong)


@pytest.mark.parametrize("optim", ["adamw_torch", "adamw_torch_fused"])
def test_trainer_resumes_a_checkpoint_of_before(merge, batch, tmp_path, optim):
    """Weights and Adam's averages of the scale are scalars there; the run goes on as if they had never been."""
    rows = [{name: value[i % 3] for name, value in batch.items()} for i in range(12)]

    def trainer(folder, model):
        options = {"max_steps": 4, "save_steps": 2, "save_strategy": "steps", "seed": 3, "learning_rate": 1e-2}
        options |= {
            "optim": optim,
            "per_device_train_batch_size": 3,
            "use_cpu": True,
            "disable_tqdm": True,
            "report_to": "none",
        }
        arguments = TrainingArguments(output_dir=str(folder), logging_strategy="no", **options)
        return Trainer(model, arguments, train_dataset=rows, callbacks=[ContrastiveLossCallback(1.0)])

    straight = merge(cls=OTMergeModel)
    trainer(tmp_path, straight).train()
    checkpoint = tmp_path / "checkpoint-2"
    path = checkpoint / "model.safetensors"
    weights = load_file(path)
    weights["logit_scale.log_scale"] = weights["logit_scale.log_scale"].reshape(())
    save_file(weights, path, metadata={"format": "pt"})
    optimizer = torch.load(checkpoint / "optimizer.pt")
    averages = [state for state in optimizer["state"].values() if state["exp_avg"].shape == (1,)]
    assert len(averages) == 1
    averages[0].update({name: averages[0][name].reshape(()) for name in ("exp_avg", "exp_avg_sq")})
    torch.save(optimizer, checkpoint / "optimizer.pt")
    resumed = merge(cls=OTMergeModel, seed=9)
    trainer(tmp_path / "again", resumed).train(resume_from_checkpoint=str(checkpoint))
    assert not torch.equal(scale_of(straight).data, weights["logit_scale.log_scale"].reshape(1))  # it learned on
    torch.testing.assert_close(scale_of(resumed), scale_of(straight), atol=1e-7, rtol=0)


def test_the_scale_is_a_scalar_to_those_who_read_it(merge, batch):
    model = merge(cls=OTMergeModel)
    for half in (model, merge().to(torch.bfloat16)):
        outputs = half(**batch)
        assert outputs.logit_scale.shape == ()
        assert outputs.logit_scale.dtype == half.dtype
    scale_of(model).requires_grad_()
    outputs = model(**batch)
    outputs.logit_scale.backward()
    torch.testing.assert_close(scale_of(model).grad, outputs.logit_scale.detach().reshape(1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model(**batch).logits_per_image.dtype == torch.bfloat16  # the scale does not widen the cosine


@pytest.mark.parametrize("cls", [OTMergeModel, OTMergeForQuestionAnswering])
def test_whatever_learns_gets_a_gradient_though_no_term_reads_the_scale(merge, batch, cls):
    """DDP waits for a gradient of every parameter that learns; without find_unused_parameters it would not end."""
    model = merge(cls=cls).train()
    model.loss_terms["term"] = lambda outputs: (outputs.query_embeds - outputs.context_embeds).square().mean()
    labels = {"labels": torch.tensor([0, 1, 2])} if cls is OTMergeForQuestionAnswering else {}
    loss = model(**batch, **labels).loss
    loss.backward()
    without = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    assert not scale_of(model).requires_grad  # and weight decay cannot reach it


FSDP = """
import os, sys, torch
rank, port, *folders, inputs = sys.argv[1:]
os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port, RANK=rank, WORLD_SIZE="2")
torch.distributed.init_process_group("gloo")
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from otmerge_hf import OTMergeForQuestionAnswering
batch = torch.load(inputs)
half = slice(2 * int(rank), 2 * int(rank) + 2)
for folder in folders:
    whole, sharded = (OTMergeForQuestionAnswering.from_pretrained(folder).eval() for _ in range(2))
    expected = whole(**batch)
    expected.loss.backward()
    fully_shard(sharded, mesh=init_device_mesh("cpu", (2,)))
    found = sharded(**{name: value[half] for name, value in batch.items()})
    found.loss.backward()
    torch.testing.assert_close(found.logits, expected.logits[half], atol=1e-6, rtol=1e-5)
    for (name, one), two in zip(whole.named_parameters(), sharded.parameters(), strict=True):
        assert (one.grad is None) == (two.grad is None), name
        if one.grad is not None:
            torch.testing.assert_close(two.grad.full_tensor(), one.grad, atol=1e-6, rtol=1e-4, msg=name)
torch.distributed.destroy_process_group()
print("sharded")
"""


@pytest.mark.distributed
def test_fsdp2_on_two_ranks_is_the_model(merge, batch, tmp_path):
    """It refuses parameters without a dimension; logits and gradients are those of one process with all rows."""
    for name, options in {"merge": {}, "transport": {"fuser_type": "transport", "adapter_type": "orthogonal"}}.items():
        merge(**options).save_pretrained(tmp_path / name)
    rows = [0, 1, 2, 0]
    batch = {name: value[rows] for name, value in batch.items()} | {"labels": torch.tensor([0, 1, 2, 1])}
    torch.save(batch, tmp_path / "batch.pt")
    (tmp_path / "shard.py").write_text(FSDP)
    port = str(20_000 + os.getpid() % 20_000)
    words = [str(tmp_path / name) for name in ("merge", "transport", "batch.pt")]
    processes = [
        subprocess.Popen(
            [sys.executable, str(tmp_path / "shard.py"), rank, port, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]
    try:
        results = [process.communicate(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for out, error in results:
        assert out.strip().endswith("sharded"), error[-2000:]
