"""`results.json` as each kind of run writes it, with figures that no rounding makes alike."""

RETRIEVAL = {
    f"{direction}_{name}": value
    for direction, values in {
        "context_to_query": (0.1234567, 0.2345678, 0.3456789, 0.4567891, 3.0),
        "query_to_context": (0.5678912, 0.6789123, 0.7891234, 0.8912345, 4.5),
    }.items()
    for name, value in zip(("recall@1", "recall@5", "recall@10", "map", "median_rank"), values, strict=True)
}
COMMAND = "otmerge train --data mine --context efficientnet-lite0 --query minilm-l6 --output merge"
ANSWERS = {
    "measure": "VQA accuracy",
    "test": {"most frequent answer": 0.4111111, "words only, linear": 0.5222222, "merged": 0.6333333},
    "ceiling": 0.9444444,
    "counts": {"train": {"rows": 1234, "images": 617, "texts": 21}, "test": {"rows": 1, "images": 1, "texts": 1}},
    "answers": 3,
    "alignment": {
        "fit": "CCA(ridge=0.3)",
        "counts": {"train": {"pairs": 77, "images": 70, "texts": 76}, "test": {"pairs": 8, "images": 4, "texts": 8}},
        "retrieval": RETRIEVAL,
    },
    "pseudo_labels": 55,
    "seconds": {"align": 12.3, "answers": 1045.6},
    "settings": {
        "epochs": 2.0, "least_steps": 300, "batch_size": 128, "learning_rate": 0.001, "lora": None, "seed": 7,
        "data": {"name": "lmms-lab/VQAv2", "hub": "lmms-lab/VQAv2"}, "command": COMMAND,
        "captions": {"name": "my-captions", "hub": None},
    },
    "validation_losses": {"bias": 1.0987, "query": 0.8765},
    "linear_path": ["query"],
    "shares": {"fuser": 0.25, "path": 0.75},
    "fuser_steps": 120,
    "parameters": {"beside_encoders": 98765, "all": 123456},
}  # fmt: skip
ALIGNMENT = {
    "images": {"train": 40, "test": 10},
    "texts": {"train": 80, "test": 20},
    "pairs": {"train": 80, "test": 20},
    "fit": "Procrustes()",
    "refitted": True,
    "candidates": [{"fit": "Procrustes()"}, {"fit": "CCA()"}],
    "refinement": {"steps": 30, "before": 0.0111, "after": 0.0222, "seconds": 1.0},
    "test": RETRIEVAL | {"mean_recall@1": 0.3456739},
    "closed_form_test": {name: value / 2 for name, value in RETRIEVAL.items()},
    "seconds": {"features": 3.2, "fit": 0.5, "refine": 1.0},
    "settings": {"seed": 0, "data": {"name": "pairs", "hub": None}},
    "parameters": {"beside_encoders": 98765, "all": 123456},
}
