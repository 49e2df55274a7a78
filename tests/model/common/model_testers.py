"""What transformers' common tests need to know of our models; pytest runs this file by name, in a process of its own.

`transformers_tests` is the package that `test_common_suite` makes of transformers' source distribution.
"""

import copy
import unittest

import torch
from transformers import BertConfig, ViTConfig
from transformers_tests.test_configuration_common import ConfigTester
from transformers_tests.test_modeling_common import ModelTesterMixin

from otmerge_hf import OTMergeConfig, OTMergeForQuestionAnswering, OTMergeModel


ENCODER = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}


class OTMergeTester:
    """A tiny merge of ViT and BERT, and a batch for it."""

    batch_size, seq_length, is_training = 3, 7, True
    hidden_size, num_attention_heads = 16, 2  # the shared space's
    num_hidden_layers = 2  # the fuser's
    key_length = 1 + 4 * 4  # context tokens: the class token and the patches
    num_labels = 3
    attn_implementation = None

    def __init__(self, parent):
        self.parent = parent

    def get_config(self):
        return OTMergeConfig.from_encoder_configs(
            ViTConfig(image_size=32, patch_size=8, **ENCODER),
            BertConfig(vocab_size=40, max_position_embeddings=20, **ENCODER),
            shared_dim=self.hidden_size,
            fuser_num_heads=self.num_attention_heads,
            fuser_num_layers=self.num_hidden_layers,
            num_labels=self.num_labels,
            freeze_encoders=False,  # the tests look for gradients, and for layers to checkpoint, everywhere
            **({"attn_implementation": self.attn_implementation} if self.attn_implementation else {}),
        )

    def prepare_config_and_inputs_for_common(self):
        mask = torch.ones(self.batch_size, self.seq_length, dtype=torch.long)
        mask[1:, -2:] = 0
        return self.get_config(), {
            "pixel_values": torch.rand(self.batch_size, 3, 32, 32),
            "input_ids": torch.randint(5, 40, (self.batch_size, self.seq_length)),
            "attention_mask": mask,
        }


class OTMergeCommonTests(ModelTesterMixin):
    """What holds for both models."""

    _is_composite = True
    additional_model_inputs = ["input_ids"]

    def setUp(self):
        self.model_tester = OTMergeTester(self)

    def test_reverse_loading_mapping(self):
        # the one conversion gives the temperature its dimension; no key has another name
        super().test_reverse_loading_mapping(check_keys_were_modified=False)


class OTMergeModelTest(OTMergeCommonTests, unittest.TestCase):
    """The aligned encoders: no fuser, so no attention of its own and one hidden state."""

    all_model_classes = (OTMergeModel,)
    has_attentions = False

    def setUp(self):
        super().setUp()
        self.model_tester.expected_num_hidden_layers = 1
        self.model_tester.is_training = False  # no loss of its own; transformers leaves its base models out by name


class OTMergeForQuestionAnsweringTest(OTMergeCommonTests, unittest.TestCase):
    """The answering model."""

    all_model_classes = (OTMergeForQuestionAnswering,)

    def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
        inputs = copy.deepcopy(inputs_dict)
        if return_labels:
            inputs["labels"] = torch.zeros(self.model_tester.batch_size, dtype=torch.long)
        return inputs

    def test_model_outputs_equivalence_with_eager_attention(self):
        # with sdpa there are no attentions to compare
        self.model_tester.attn_implementation = "eager"
        super().test_model_outputs_equivalence()


class OTMergeConfigTest(unittest.TestCase):
    """The configuration; each check is a test of its own, so that one failure hides no other."""

    def setUp(self):
        self.model_tester = OTMergeTester(self)
        self.tester = ConfigTester(
            self,
            config_class=OTMergeConfig,
            has_text_modality=False,
            common_properties=["shared_dim", "context_config", "query_config"],
            shared_dim=16,
            fuser_num_heads=2,
        )


for _check in [name for name in vars(ConfigTester) if name.startswith(("create_and_test_", "check_"))]:
    setattr(
        OTMergeConfigTest,
        f"test_{_check.removeprefix('create_and_test_')}",
        lambda self, check=_check: getattr(self.tester, check)(),
    )
