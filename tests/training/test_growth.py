"""`grow_answers` on planted problems: what words answer, what needs both sides token by token, and what is chance."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_training import CONTEXT_DIM, QUERY_DIM
from transformers import TrainerCallback, TrainingArguments, default_data_collator

from otmerge_hf.training import grow_answers, put_answer_texts
from otmerge_hf.training.best import KeepBest
from otmerge_hf.training.fuser_training import train_fuser
from otmerge_hf.training.growth import measure_parts
from otmerge_hf.training.kept import Kept
from otmerge_hf.training.linear_fit import fit_linear_path
from otmerge_hf.training.logistic import answer_losses


PATH = ["query", "context", "cosine"]


def planted(kind, count, seed, noise=None):
    """Rows of tokens with labels: by the question's words alone, by an exclusive or of both sides, or by chance."""
    generator = torch.Generator().manual_seed(seed)
    noise, rows = {"words": 0.2, "both": 0.0}.get(kind) if noise is None else noise, []
    for _ in range(count):
        context, query = (torch.randn(3, dim, generator=generator) for dim in (CONTEXT_DIM, QUERY_DIM))
        signs = torch.randint(0, 2, (2,), generator=generator) * 2 - 1
        context[:, 0], query[:, 0] = 2.0 * signs[0], 2.0 * signs[1]
        chance = torch.rand((), generator=generator)
        label = {"words": signs[1] > 0, "both": signs[0] * signs[1] > 0, "chance": chance < 0.5}[kind]
        if kind != "chance" and chance < noise:  # the best loss is not zero: a steeper answer is a worse one
            label = ~label
        rows.append({"context_features": context, "query_features": query, "labels": int(label)})
    return rows


@pytest.fixture
def arguments(tmp_path):
    def make(name="run", **options):
        defaults = {"use_cpu": True, "report_to": "none", "disable_tqdm": True, "logging_strategy": "no",
                    "max_steps": 20, "learning_rate": 1e-2, "save_strategy": "no", "seed": 0,
                    "per_device_train_batch_size": 32, "per_device_eval_batch_size": 64}  # fmt: skip
        return TrainingArguments(str(tmp_path / name), **defaults | options)

    return make


@pytest.fixture
def grow(make_model, arguments):
    """`grow(kind, ...)`: the model after it, and what is said of it."""

    def make(kind, model=None, rows=(120, 60), seed=0, args=None, **options):
        model = model or make_model(answers=2, linear_path=PATH)
        questions, validation = (planted(kind, n, 10 * seed + k) for k, n in enumerate(rows))
        args = args or arguments()
        growth = grow_answers(model, questions, default_data_collator, args, eval_questions=validation, **options)
        return model, growth, questions, validation

    return make


@torch.no_grad()
def logits_of(model, rows):
    batch = default_data_collator(rows)
    labels = batch.pop("labels")
    return model.eval()(**batch).logits, labels


def validation_loss(model, rows):
    return answer_losses(*logits_of(model, rows)).mean().item()


def linear_logits(fit, parts):
    return fit.bias + sum(parts[name] @ weight.T for name, weight in fit.weights.items())


def same(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("refit", [False, True])
def test_where_words_suffice_the_fuser_is_left_out(make_model, grow, refit):
    before = copy.deepcopy(make_model(answers=2, linear_path=PATH).state_dict())
    model, growth, questions, validation = grow("words", refit=refit)
    assert (growth.shares.fuser, growth.fuser_steps) == (0.0, 0)
    assert list(growth.linear.weights) == ["query"]
    assert "fuser" in str(growth)
    assert "left out" in str(growth)
    # what is left is the linear path; adapters and fuser are as if they had never been trained
    parts, labels = measure_parts(model, questions, default_data_collator, 16)
    eval_parts, eval_labels = measure_parts(model, validation, default_data_collator, 16)
    fit = growth.linear
    if refit:
        every = {name: torch.cat([parts[name], eval_parts[name]]) for name in parts}
        both = torch.cat([labels, eval_labels])
        fit = fit_linear_path(every, both, {}, both[:0], 2, again=fit)
        assert not torch.allclose(fit.weights["query"], growth.linear.weights["query"])
    torch.testing.assert_close(logits_of(model, validation)[0], linear_logits(fit, eval_parts), atol=1e-5, rtol=1e-5)
    after = model.state_dict()
    untouched = {n for n in before if not n.startswith(("linear_path.", "classifier.3."))}
    assert {n for n in untouched if "_adapter" in n or n.startswith("fuser.")}
    same({n: before[n] for n in untouched}, {n: after[n] for n in untouched})
    if not refit:
        assert validation_loss(model, validation) == pytest.approx(growth.linear_loss, abs=1e-5)
        assert growth.linear_loss == pytest.approx(growth.linear.losses["query"], abs=1e-4)


def test_where_both_sides_are_needed_the_fuser_is_kept(grow, arguments):
    args = arguments(max_steps=300, learning_rate=3e-3)
    model, growth, _, validation = grow("both", rows=(320, 120), args=args, refit=False)
    assert growth.shares.fuser > 0
    assert growth.fuser_steps > 0
    assert growth.linear_loss > 0.6
    assert growth.mixed_loss < 0.3
    assert validation_loss(model, validation) == pytest.approx(growth.mixed_loss, abs=1e-4)
    logits, labels = logits_of(model, validation)
    assert (logits.argmax(1) == labels).float().mean() > 0.9
    assert f"it is kept, trained for {growth.fuser_steps} steps" in str(growth)


@pytest.mark.parametrize("refit", [False, True])
def test_of_many_rows_and_answers_some_stand_for_all(grow, caplog, monkeypatch, refit):
    monkeypatch.setattr("otmerge_hf.training.measuring.MOST_LOGITS", 2 * 100)  # of two answers
    _, growth, questions, _ = grow("words", refit=refit)
    assert len(questions) > 100
    assert list(growth.linear.weights) == ["query"]
    assert f"fitted on 100 of the {len(questions)} rows, drawn at random" in caplog.text


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_chance_is_never_worse_than_the_linear_path(grow, arguments, seed):
    """Labels that nothing says, a training that learns them by heart."""
    args = arguments(max_steps=30, learning_rate=3e-2)
    model, growth, _, validation = grow("chance", rows=(60, 40), seed=seed, args=args, refit=False)
    assert validation_loss(model, validation) <= growth.linear_loss + 1e-5
    assert growth.linear_loss <= growth.linear.losses["bias"] + 1e-5
    assert max(growth.fuser_losses) > growth.linear_loss
    assert growth.shares.fuser == 0


class Watch(TrainerCallback):
    """Each training's rows, its last step, and what its parameters were before and after."""

    def __init__(self):
        self.rows, self.steps, self.before, self.after = [], [], [], []

    def on_train_begin(self, args, state, control, model, train_dataloader, **kwargs):
        self.rows.append(len(train_dataloader.dataset))
        self.before.append(copy.deepcopy(model.state_dict()))

    def on_train_end(self, args, state, control, model, **kwargs):
        self.steps.append(state.global_step)
        self.after.append(copy.deepcopy(model.state_dict()))


@pytest.mark.parametrize("refit", [False, True])
def test_a_fuser_that_goes_too_far_is_kept_as_it_was_at_its_best(make_model, arguments, refit):
    """Wrong labels among few rows: the fuser finds the rule, then learns them by heart."""
    model, watch = make_model(answers=2, linear_path=PATH), Watch()
    questions, validation = planted("both", 160, 0, noise=0.1), planted("both", 120, 1, noise=0.1)
    callbacks = [watch]
    args = arguments(max_steps=200, learning_rate=2e-2, eval_strategy="steps", eval_steps=50)
    growth = grow_answers(
        model, questions, default_data_collator, args, eval_questions=validation, callbacks=callbacks, refit=refit
    )
    assert callbacks == [watch]
    assert 0 < growth.shares.fuser < 1
    assert growth.fuser_steps < watch.steps[0]
    assert max(growth.fuser_losses[growth.fuser_losses.index(min(growth.fuser_losses)) :]) > 1.2 * growth.mixed_loss
    last = model.classifier[-1].weight
    if not refit:
        assert validation_loss(model, validation) == pytest.approx(growth.mixed_loss, abs=1e-4)
        assert growth.mixed_loss <= min(growth.fuser_losses)
        return
    # once more from the start, on all rows, for as long as was best
    assert watch.rows == [160, 280]
    assert watch.steps[1] == growth.fuser_steps
    begun = [{name: value for name, value in state.items() if "linear_path" not in name} for state in watch.before]
    same(*begun)
    torch.testing.assert_close(last, growth.shares.fuser * watch.after[1]["classifier.3.weight"])
    assert validation_loss(model, planted("both", 200, 77)) < 0.8 * growth.linear_loss


def test_arguments_stay_and_ten_evaluations_are_planned(grow, arguments):
    args = arguments(max_steps=-1, num_train_epochs=20, gradient_accumulation_steps=2, learning_rate=3e-3)
    before, watch = args.to_dict(), Watch()
    _, growth, *_ = grow("both", rows=(960, 60), args=args, callbacks=[watch], refit=False)
    assert args.to_dict() == before
    assert len(growth.fuser_losses) == 10
    assert watch.steps == [300]  # 20 epochs of 960 rows, 64 rows a step


@pytest.mark.parametrize(("options", "losses"), [
    ({"max_steps": 5, "eval_strategy": "steps", "eval_steps": 1000}, 1),
    ({"max_steps": 5, "eval_strategy": "steps", "eval_steps": 2}, 3),
    ({"max_steps": -1, "num_train_epochs": 2, "eval_strategy": "epoch"}, 2),
])  # fmt: skip
def test_the_last_step_is_evaluated_whatever_the_arguments_ask(make_model, arguments, options, losses):
    model, rows = make_model(answers=2), planted("words", 60, 0)
    best = KeepBest(model)
    train_fuser(model, rows, default_data_collator, arguments(**options), best, eval_rows=rows)
    assert len(best.losses) == losses


@pytest.mark.parametrize(("kind", "evaluations"), [("words", 5), ("both", 10)])
def test_at_half_of_its_steps_a_fuser_that_adds_nothing_stops(grow, arguments, tmp_path, kind, evaluations):
    """It adds nothing to the words that the answers were planted in; what needs both sides, it has learnt by then."""
    options = {"args": arguments(max_steps=300, learning_rate=3e-3), "rows": (960, 120), "refit": False}
    watch = Watch()
    model, growth, *_ = grow(kind, keep=tmp_path / "kept", callbacks=[watch], **options)
    assert (len(growth.fuser_losses), watch.steps) == (evaluations, [30 * evaluations])
    assert bool(growth.shares.fuser) is (kind == "both")
    again = Watch()  # made again, it is not gone on with
    same(model.state_dict(), grow(kind, keep=tmp_path / "kept", callbacks=[again], **options)[0].state_dict())
    assert again.steps == []


def test_a_training_that_was_found_hopeless_stays_so(make_model, arguments, tmp_path):
    model, rows, kept = make_model(answers=2), planted("words", 60, 0), Kept(tmp_path)
    first = KeepBest(model, is_hopeless=lambda: True)
    args = arguments(max_steps=8, eval_strategy="steps", eval_steps=2)
    train_fuser(model, rows, default_data_collator, args, first, eval_rows=rows)
    assert len(first.losses) == 2
    first.keep(kept)
    second = KeepBest(model)
    assert second.load(kept)
    assert second.is_over
    state, notes = kept.read("best")
    kept.write("best", state, {name: notes[name] for name in ("steps", "losses")})  # as an earlier version did
    third = KeepBest(model)
    assert third.load(kept)
    assert not third.is_over


def test_whether_a_training_is_hopeless_is_not_asked_at_its_end(make_model, arguments):
    model, rows = make_model(answers=2), planted("words", 60, 0)
    best = KeepBest(model, is_hopeless=lambda: pytest.fail("it was asked"))
    args = arguments(max_steps=3, eval_strategy="steps", eval_steps=3)
    train_fuser(model, rows, default_data_collator, args, best, eval_rows=rows)
    assert len(best.losses) == 1


def test_what_an_earlier_run_left_in_the_folder_is_not_resumed(grow, arguments):
    options = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    first, *_ = grow("both", args=arguments("shared", **options), refit=False)
    second, *_ = grow("both", args=arguments("shared", **options), refit=False)
    same(first.state_dict(), second.state_dict())


def test_the_stage_fuse_leaves_the_adapters(make_model, grow, arguments):
    fresh = make_model(answers=2, linear_path=PATH).otmerge.state_dict()
    model, growth, *_ = grow("both", rows=(320, 120), args=arguments(max_steps=60), stage="fuse")
    same(model.otmerge.state_dict(), fresh)
    model, growth, *_ = grow("both", rows=(320, 120), args=arguments(max_steps=60), refit=False)
    assert growth.shares.fuser > 0
    assert any(not torch.equal(model.otmerge.state_dict()[name], fresh[name]) for name in fresh)


def soft(rows):
    """The same rows, their answers as scores of both."""
    return [r | {"labels": torch.tensor([0.9, 0.1]) if r["labels"] == 0 else torch.tensor([0.1, 0.9])} for r in rows]


def test_soft_labels(make_model, arguments):
    model = make_model(answers=2, linear_path=PATH)
    rows = [soft(planted("words", n, n)) for n in (120, 60)]
    growth = grow_answers(model, rows[0], default_data_collator, arguments(), eval_questions=rows[1], refit=False)
    assert list(growth.linear.weights) == ["query"]
    assert growth.linear_loss < growth.linear.losses["bias"] - 0.1
    assert validation_loss(model, rows[1]) == pytest.approx(
        growth.mixed_loss if growth.shares.fuser else growth.linear_loss, abs=1e-4
    )


def test_unlabelled_rows_of_validation_do_not_count(grow, make_model, arguments):
    model = make_model(answers=2, linear_path=PATH)
    questions, validation = planted("words", 120, 0), planted("words", 60, 1)
    more = [row | {"labels": -100} for row in planted("words", 64, 5)]
    growth = grow_answers(
        model, questions, default_data_collator, arguments(), eval_questions=validation + more, refit=False
    )
    _, clean, *_ = grow("words", refit=False)
    assert growth.linear_loss == pytest.approx(clean.linear_loss, abs=1e-5)
    same(growth.linear.weights, clean.linear.weights)


def test_a_wrapped_model_grows(make_model, grow, arguments):
    """LoRA in a frozen encoder, and the merge inside PEFT's wrapper."""
    inner = make_model(answers=2, linear_path=PATH)
    wrapped = get_peft_model(inner, LoraConfig(r=2, target_modules=r".*encoder.*\.(query|value)"))
    _, growth, _, validation = grow("both", model=wrapped, rows=(320, 120), args=arguments(max_steps=60), refit=False)
    assert growth.shares.fuser > 0
    assert validation_loss(wrapped, validation) == pytest.approx(growth.mixed_loss, abs=1e-4)


def test_answers_are_read_by_the_query_side(merge, processor):
    model = merge()
    put_answer_texts(model, processor)
    for place, name in model.config.id2label.items():
        with torch.no_grad():
            alone = model.otmerge.get_query_embeds(**processor(text=[name], return_tensors="pt"))
        torch.testing.assert_close(model.linear_path.answer_embeds[place], alone[0], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(model.linear_path.answer_embeds[0], model.linear_path.answer_embeds[1], atol=1e-3)
    with pytest.raises(ValueError, match=r"`linear_path` is \['query'\]; expected `answers` among its parts"):
        put_answer_texts(merge(linear_path=["query"]), processor)


def test_answers_near_their_context_are_found(merge, processor, arguments):
    """Contexts are put where an answer's own text lies: the part with one weight for all answers says it."""
    model = merge(adapter_type="linear", linear_path=["answers"])
    with torch.no_grad():
        model.otmerge.query_adapter.load_affine(torch.eye(16), torch.zeros(16))
        model.otmerge.context_adapter.load_affine(torch.eye(16), torch.zeros(16))
    put_answer_texts(model, processor)
    targets = torch.nn.functional.normalize(model.linear_path.answer_embeds.detach(), dim=-1)
    targets = targets - targets.mean(0)
    torch.nn.init.zeros_(model.linear_path.answer_embeds)  # growing puts them in
    generator = torch.Generator().manual_seed(0)

    def rows(count):
        return [
            {
                "context_features": 3 * targets[i % 3] + 0.3 * torch.randn(4, 16, generator=generator),
                "query_features": torch.randn(3, 16, generator=generator),
                "labels": i % 3,
            }
            for i in range(count)
        ]

    growth = grow_answers(
        model, rows(90), default_data_collator, arguments(max_steps=2), eval_questions=rows(60), processor=processor
    )
    assert growth.linear.weights["answers"].shape == (1,)
    assert growth.linear.losses["answers"] < 0.5 * growth.linear.losses["bias"]


def test_refusals(make_model, arguments):
    model, rows = make_model(answers=2, linear_path=PATH), planted("words", 8, 0)

    def grown(model=model, questions=rows, eval_questions=rows):
        return grow_answers(model, questions, default_data_collator, arguments(), eval_questions=eval_questions)

    unlabelled = [{name: value for name, value in row.items() if name != "labels"} for row in rows]
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match="`model` is a OTMergeModel; expected an OTMergeForQuestionAnswering"):
        grown(make_model())
    with pytest.raises(ValueError, match="`model` has no linear path"):
        grown(make_model(answers=2, linear_path=[]))
    for name in ("questions", "eval_questions"):
        with pytest.raises(ValueError, match=f"`{name}` is empty"):
            grown(**{name: []})
        with pytest.raises(ValueError, match=f"`{name}` is a NoneType; expected rows with a length"):
            grown(**{name: None})
        with pytest.raises(ValueError, match=f"of the first of `{name}`; expected `labels`"):
            grown(**{name: unlabelled})
    with pytest.raises(ValueError, match=r"^`eval_labels` holds no label but -100"):
        grown(eval_questions=[row | {"labels": -100} for row in rows])
    same(model.state_dict(), before)
