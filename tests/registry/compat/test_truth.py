"""Ground truth: for many pairs of real architectures, the report is what torch itself does and says.

Every verdict, need, reason and map is pinned here, to be read as a table.
"""

# ruff: noqa: E501 - a table is read by its rows

import re
from collections import OrderedDict

import pytest
from torch import nn

from registry.compat.compare import compare
from registry.compat.load_plan import LoadWishes, make_plan
from registry.compat.next_step import next_code
from registry.errors import AmbiguousPrefixError, StateDictMismatchError
from registry.torch.architecture import architecture_of, architecture_of_state_dict

# fmt: off
PAIRS = [
    # source, target, verdict, needs, reasons, renames
    ("tv resnet50", "tv resnet50", "exact", "", "", ""),
    ("tv resnet50", "tv resnet50 num_classes=10", "backbone", "new_head", "", ""),
    ("tv resnet18", "tv resnet18 num_classes=1001", "backbone", "new_head", "", ""),
    ("tv resnet101", "tv resnet50", "partial", "drop_extra", "truncated_trunk", ""),
    ("tv resnet50", "tv resnet101", "partial", "", "unfilled_trunk", ""),
    ("tv resnet34", "tv resnet18", "partial", "drop_extra", "truncated_trunk", ""),
    ("tv resnet18", "tv resnet34", "partial", "", "unfilled_trunk", ""),
    ("tv resnet18", "tv resnet50", "incompatible", "", "unfilled_trunk other_trunk", ""),
    ("tv resnet50", "tv resnet18", "incompatible", "", "truncated_trunk other_trunk", ""),
    ("tv wide_resnet50_2", "tv resnet50", "incompatible", "", "other_trunk", ""),
    ("tv resnext50_32x4d", "tv resnet50", "incompatible", "", "other_trunk", ""),
    ("prefix module. tv resnet50", "tv resnet50", "exact", "rename", "", "module.→"),
    ("prefix module. tv resnet101", "tv resnet50", "partial", "rename drop_extra", "truncated_trunk", "module.→"),
    ("prefix module. tv resnet50", "tv resnet50 num_classes=10", "backbone", "rename new_head", "", "module.→"),
    ("prefix _orig_mod. tv resnet50", "tv resnet50", "exact", "rename", "", "_orig_mod.→"),
    ("prefix _orig_mod.module. tv resnet18", "tv resnet18", "exact", "rename", "", "_orig_mod.module.→"),
    ("compiled tv vgg11", "tv vgg11", "exact", "rename", "", "features._orig_mod.→features."),
    ("compiled tv densenet121", "tv densenet121", "exact", "rename", "", "features._orig_mod.→features."),
    ("lightning tv resnet50", "tv resnet50", "superset", "rename drop_extra", "", "model.→"),
    ("lightning tv resnet50", "tv resnet50 num_classes=10", "backbone", "rename drop_extra new_head", "", "model.→"),
    ("lightning tv efficientnet_b0", "tv efficientnet_b1", "partial", "rename drop_extra", "unfilled_trunk", "model.→"),
    ("averaged tv resnet50", "tv resnet50", "superset", "rename drop_extra", "", "module.→"),
    ("prefix backbone.body. tv resnet50", "tv resnet50", "exact", "rename", "", "backbone.body.→"),
    ("prefix net.encoder.img. tv resnet18", "tv resnet18", "exact", "rename", "", "net.encoder.img.→"),
    ("tv resnet18", "nested tv resnet18", "backbone", "rename new_head", "", "→encoder."),
    ("prefix module. tv resnet18", "nested tv resnet18", "backbone", "rename new_head", "", "module.→encoder."),
    ("nested tv resnet18", "tv resnet18", "superset", "rename drop_extra", "", "encoder.→"),
    ("nested tv resnet18", "nested tv resnet18", "exact", "", "", ""),
    ("tv resnet34", "nested tv resnet18", "partial", "rename drop_extra new_head", "truncated_trunk", "→encoder."),
    ("tv resnet18", "nested tv resnet34", "partial", "rename", "unfilled_trunk", "→encoder."),
    ("pair tv resnet18", "pair tv resnet18", "exact", "", "", ""),
    ("prefix encoder_q. tv resnet18", "tv resnet18", "exact", "rename", "", "encoder_q.→"),
    ("half tv resnet50", "tv resnet50", "exact", "cast", "", ""),
    ("tv resnet50", "tv fcn_resnet50", "backbone", "rename drop_extra new_head", "", "→backbone."),
    ("tv resnet50", "tv deeplabv3_resnet50 aux_loss=True", "backbone", "rename drop_extra new_head", "", "→backbone."),
    ("tv fcn_resnet50", "tv resnet50", "backbone", "rename drop_extra new_head", "", "backbone.→"),
    ("tv deeplabv3_resnet50 aux_loss=True", "tv deeplabv3_resnet50 aux_loss=True num_classes=3", "backbone", "new_head", "", ""),
    ("tv deeplabv3_resnet50 aux_loss=True", "tv deeplabv3_resnet50 num_classes=21", "superset", "drop_extra", "", ""),
    ("tv deeplabv3_resnet50", "tv fcn_resnet50", "partial", "drop_extra", "truncated_trunk unfilled_trunk other_trunk", ""),
    ("tv resnet50", "tv fasterrcnn_resnet50_fpn", "backbone", "rename drop_extra new_head", "", "→backbone.body."),
    ("tv fasterrcnn_resnet50_fpn", "tv resnet50", "backbone", "rename drop_extra new_head", "", "backbone.body.→"),
    ("tv fasterrcnn_resnet50_fpn", "tv fasterrcnn_resnet50_fpn num_classes=5", "backbone", "new_head", "", ""),
    ("tv fasterrcnn_resnet50_fpn", "tv retinanet_resnet50_fpn", "partial", "drop_extra new_head", "truncated_trunk other_trunk", ""),
    ("tv mobilenet_v2", "tv mobilenet_v2 num_classes=7", "backbone", "new_head", "", ""),
    ("tv mobilenet_v2", "timm mobilenetv2_100", "incompatible", "rename", "truncated_trunk unfilled_trunk other_trunk", ""),
    ("timm mobilenetv2_100", "tv mobilenet_v2", "incompatible", "rename", "truncated_trunk unfilled_trunk other_trunk", ""),
    ("tv mobilenet_v3_small", "tv mobilenet_v3_large", "incompatible", "", "truncated_trunk unfilled_trunk other_trunk", ""),
    ("tv vgg16", "tv vgg16 num_classes=7", "backbone", "new_head", "", ""),
    ("tv vgg19", "tv vgg16", "partial", "drop_extra", "truncated_trunk unfilled_trunk other_trunk", ""),
    ("tv vgg16", "tv vgg19", "partial", "drop_extra", "truncated_trunk unfilled_trunk other_trunk", ""),
    ("tv vgg16", "tv vgg16_bn", "incompatible", "", "truncated_trunk unfilled_trunk other_trunk", ""),
    ("tv vgg16_bn", "tv vgg16", "incompatible", "", "truncated_trunk unfilled_trunk other_trunk", ""),
    ("tv alexnet", "tv alexnet num_classes=3", "backbone", "new_head", "", ""),
    ("tv squeezenet1_0", "tv squeezenet1_0 num_classes=4", "backbone", "new_head", "", ""),
    ("tv squeezenet1_1", "tv squeezenet1_0", "incompatible", "", "truncated_trunk unfilled_trunk other_trunk", ""),
    ("tv densenet121", "tv densenet121 num_classes=4", "backbone", "new_head", "", ""),
    ("tv densenet169", "tv densenet121", "incompatible", "", "truncated_trunk other_trunk", ""),
    ("tv densenet121", "tv densenet169", "incompatible", "", "unfilled_trunk other_trunk", ""),
    ("tv efficientnet_b0", "tv efficientnet_b1", "partial", "", "unfilled_trunk", ""),
    ("tv efficientnet_b1", "tv efficientnet_b0", "partial", "drop_extra", "truncated_trunk", ""),
    ("tv efficientnet_b0", "tv efficientnet_b0 num_classes=9", "backbone", "new_head", "", ""),
    ("tv inception_v3", "tv inception_v3 num_classes=5", "backbone", "new_head", "", ""),
    ("tv inception_v3", "tv inception_v3 aux_logits=False", "superset", "drop_extra", "", ""),
    ("tv inception_v3 aux_logits=False", "tv inception_v3", "backbone", "new_head", "", ""),
    ("tv googlenet", "tv googlenet num_classes=7", "backbone", "new_head", "", ""),
    ("tv googlenet", "tv googlenet aux_logits=False", "superset", "drop_extra", "", ""),
    ("tv googlenet aux_logits=False", "tv googlenet", "backbone", "new_head", "", ""),
    ("tv convnext_tiny", "tv convnext_tiny num_classes=2", "backbone", "new_head", "", ""),
    ("tv convnext_tiny", "tv convnext_small", "partial", "", "unfilled_trunk", ""),
    ("tv convnext_small", "tv convnext_tiny", "partial", "drop_extra", "truncated_trunk", ""),
    ("tv swin_t", "tv swin_t num_classes=3", "backbone", "new_head", "", ""),
    ("tv swin_t", "tv swin_s", "partial", "", "unfilled_trunk", ""),
    ("tv swin_s", "tv swin_t", "partial", "drop_extra", "truncated_trunk", ""),
    ("tv vit_b_16", "tv vit_b_16 num_classes=3", "backbone", "new_head", "", ""),
    ("tv vit_b_16", "tv vit_b_16 image_size=384", "partial", "resize_position", "", ""),
    ("tv vit_b_16", "tv vit_b_32", "partial", "resize_position", "", ""),
    ("tv mnasnet1_0", "tv mnasnet1_0 num_classes=5", "backbone", "new_head", "", ""),
    ("tv shufflenet_v2_x1_0", "tv shufflenet_v2_x0_5", "incompatible", "", "other_trunk", ""),
    ("tv resnet50", "tv vgg16", "incompatible", "", "truncated_trunk unfilled_trunk other_trunk", ""),
    ("tv densenet121", "tv resnet50", "incompatible", "", "truncated_trunk unfilled_trunk other_trunk", ""),
    ("tv resnet18", "tv alexnet", "incompatible", "", "truncated_trunk unfilled_trunk other_trunk", ""),
    ("tv alexnet", "tv squeezenet1_0", "incompatible", "", "truncated_trunk unfilled_trunk other_trunk", ""),
    ("uncounted tv resnet18", "tv resnet18", "exact", "fill_counters", "", ""),
    ("uncounted plain tv resnet18", "tv resnet18", "exact", "", "", ""),
    ("plain tv resnet18", "tv resnet18", "exact", "", "", ""),
    ("sorted tv resnet50", "tv resnet50 num_classes=10", "backbone", "new_head", "", ""),
    ("sorted tv resnet101", "tv resnet50", "partial", "drop_extra", "truncated_trunk", ""),
    ("sorted tv resnet50", "tv fcn_resnet50", "backbone", "rename drop_extra new_head", "", "→backbone."),
    ("sorted prefix module. tv resnet18", "tv resnet18", "exact", "rename", "", "module.→"),
    ("part layer tv resnet50", "tv resnet50", "partial", "", "unfilled_trunk", ""),
    ("part features tv vgg16", "tv vgg16", "backbone", "new_head", "", ""),
    ("timm resnet50", "tv resnet50", "exact", "", "", ""),
    ("tv resnet50", "timm resnet50 in_chans=1", "partial", "adapt_first_conv", "", ""),
    ("timm resnet50", "timm resnet50 num_classes=0", "superset", "drop_extra", "", ""),
    ("timm resnet50 num_classes=0", "timm resnet50", "backbone", "new_head", "", ""),
    ("timm resnet50 num_classes=0", "nested timm resnet50 num_classes=0", "backbone", "rename new_head", "", "→encoder."),
    ("timm resnet101 num_classes=0", "timm resnet50 num_classes=0", "partial", "drop_extra", "truncated_trunk", ""),
    ("timm resnet50d", "timm resnet50", "partial", "drop_extra", "truncated_trunk unfilled_trunk other_trunk", ""),
    ("timm seresnet50", "timm resnet50", "partial", "drop_extra", "truncated_trunk", ""),
    ("timm resnet50", "timm seresnet50", "partial", "", "unfilled_trunk", ""),
    ("timm vit_tiny_patch16_224", "timm vit_tiny_patch16_224 img_size=384", "partial", "resize_position", "", ""),
    ("timm vit_tiny_patch16_224", "timm vit_tiny_patch16_224 num_classes=10", "backbone", "new_head", "", ""),
    ("timm vit_tiny_patch16_224", "timm vit_tiny_patch16_224 num_classes=10 img_size=384", "partial", "new_head resize_position", "", ""),
    ("timm vit_tiny_patch16_224", "timm vit_tiny_patch16_224 in_chans=1", "partial", "adapt_first_conv", "", ""),
    ("timm vit_base_patch16_224", "timm vit_base_patch8_224", "partial", "resize_position", "", ""),
    ("timm vit_base_patch16_224", "tv vit_b_16", "incompatible", "", "truncated_trunk unfilled_trunk other_trunk", ""),
    ("timm vit_tiny_patch16_224", "timm vit_small_patch16_224", "incompatible", "", "other_trunk", ""),
    ("timm deit_tiny_patch16_224", "timm deit_tiny_distilled_patch16_224", "partial", "resize_position", "unfilled_trunk", ""),
    ("timm deit_tiny_distilled_patch16_224", "timm deit_tiny_patch16_224", "partial", "drop_extra resize_position", "truncated_trunk", ""),
    ("timm swin_tiny_patch4_window7_224", "timm swin_tiny_patch4_window7_224 num_classes=5", "backbone", "new_head", "", ""),
    ("timm swin_tiny_patch4_window7_224", "timm swin_tiny_patch4_window7_224 img_size=384 window_size=12", "partial", "resize_position", "", ""),
    ("timm efficientnet_b0", "timm tf_efficientnet_b0", "exact", "", "", ""),
    ("timm efficientnet_b0", "timm efficientnet_b1", "partial", "", "unfilled_trunk", ""),
    ("timm efficientnet_b0", "timm efficientnet_b0 num_classes=4 in_chans=1", "partial", "new_head adapt_first_conv", "", ""),
    ("timm mixer_s32_224", "timm mixer_s16_224", "incompatible", "", "other_trunk", ""),
    ("timm test_resnet", "timm test_resnet num_classes=3", "backbone", "new_head", "", ""),
    ("timm test_vit", "timm test_vit num_classes=3", "backbone", "new_head", "", ""),
    ("timm test_convnext", "timm test_convnext2", "incompatible", "", "truncated_trunk other_trunk", ""),
    ("timm test_efficientnet", "timm test_efficientnet_ln", "partial", "drop_extra", "other_trunk", ""),
    ("timm regnety_002", "timm regnety_004", "incompatible", "", "truncated_trunk unfilled_trunk other_trunk", ""),
    ("prefix model. timm test_vit", "nested timm test_vit", "backbone", "rename new_head", "", "model.→encoder."),
    ("hf BertModel", "hf BertModel", "exact", "", "", ""),
    ("hf BertModel", "hf BertForSequenceClassification", "backbone", "rename new_head", "", "→bert."),
    ("hf BertForSequenceClassification", "hf BertModel", "superset", "rename drop_extra", "", "bert.→"),
    ("hf BertForSequenceClassification", "hf BertForSequenceClassification num_labels=5", "backbone", "new_head", "", ""),
    ("hf BertForMaskedLM", "hf BertForMaskedLM", "exact", "", "", ""),
    ("hf BertForMaskedLM", "hf BertForMaskedLM vocab_size=60", "partial", "resize_vocabulary", "", ""),
    ("hf BertModel", "hf BertModel vocab_size=60", "partial", "resize_vocabulary", "", ""),
    ("hf BertModel", "hf BertModel num_hidden_layers=3", "partial", "", "unfilled_trunk", ""),
    ("hf BertModel num_hidden_layers=3", "hf BertModel", "partial", "drop_extra", "truncated_trunk", ""),
    ("hf BertModel", "hf BertModel max_position_embeddings=40", "partial", "resize_position", "", ""),
    ("hf BertForMaskedLM", "hf BertForSequenceClassification", "backbone", "drop_extra new_head", "", ""),
    ("hf GPT2LMHeadModel", "hf GPT2LMHeadModel", "exact", "", "", ""),
    ("hf GPT2LMHeadModel", "hf GPT2LMHeadModel vocab_size=60", "partial", "resize_vocabulary", "", ""),
    ("hf GPT2Model", "hf GPT2LMHeadModel", "exact", "rename", "", "→transformer."),
    ("hf GPT2LMHeadModel", "hf GPT2Model", "superset", "rename drop_extra", "", "transformer.→"),
    ("hf GPT2LMHeadModel", "hf GPT2LMHeadModel n_layer=3", "partial", "", "unfilled_trunk", ""),
    ("part transformer hf GPT2LMHeadModel", "hf GPT2LMHeadModel", "exact", "", "", ""),
    ("hf T5ForConditionalGeneration", "hf T5ForConditionalGeneration", "exact", "", "", ""),
    ("part shared hf T5ForConditionalGeneration", "hf T5ForConditionalGeneration", "backbone", "new_head", "", ""),
    ("hf LlamaForCausalLM", "hf LlamaForCausalLM num_hidden_layers=1", "partial", "drop_extra", "truncated_trunk", ""),
    ("hf LlamaForCausalLM", "hf LlamaForCausalLM tie_word_embeddings=True", "partial", "", "tied_conflict", ""),
    ("hf LlamaForCausalLM tie_word_embeddings=True", "hf LlamaForCausalLM", "exact", "", "", ""),
    ("hf DistilBertModel", "hf BertModel", "incompatible", "", "unfilled_trunk other_trunk", ""),
    ("hf ViTModel", "hf ViTForImageClassification", "backbone", "rename drop_extra new_head", "", "→vit."),
    ("hf ViTForImageClassification num_labels=3", "hf ViTForImageClassification num_labels=7", "backbone", "new_head", "", ""),
    ("hf ViTForImageClassification", "hf ViTForImageClassification image_size=64", "partial", "resize_position", "", ""),
    ("hf RobertaForSequenceClassification", "hf RobertaForTokenClassification", "backbone", "drop_extra new_head", "", ""),
    ("tv swin_v2_t", "tv swin_v2_t num_classes=2", "backbone", "new_head", "", ""),
    ("tv maxvit_t", "tv maxvit_t num_classes=4", "backbone", "new_head", "", ""),
    ("tv resnet18", "timm resnet18", "exact", "", "", ""),
    ("tv convnext_tiny", "timm convnext_tiny", "incompatible", "", "truncated_trunk unfilled_trunk other_trunk", ""),
    ("tv inception_v3", "timm inception_v3", "superset", "drop_extra", "", ""),
    ("tv googlenet", "tv googlenet aux_logits=False num_classes=3", "backbone", "drop_extra new_head", "", ""),
    ("tv inception_v3", "tv inception_v3 aux_logits=False num_classes=3", "backbone", "drop_extra new_head", "", ""),
    ("compiled tv inception_v3", "tv inception_v3", "exact", "rename", "", "Conv2d_1a_3x3._orig_mod.→Conv2d_1a_3x3."),
    ("lightning tv vgg16", "tv vgg16 num_classes=3", "backbone", "rename drop_extra new_head", "", "model.→"),
    ("prefix model.module. tv resnet50", "tv resnet50", "exact", "rename", "", "model.module.→"),
    ("timm vit_tiny_patch16_224", "timm vit_tiny_patch16_224 patch_size=32", "partial", "resize_position", "", ""),
    ("timm vit_tiny_patch16_224", "timm vit_tiny_patch16_224 img_size=448 patch_size=32", "partial", "resize_position", "", ""),
    ("timm beit_base_patch16_224", "timm beit_base_patch16_224 img_size=384", "partial", "resize_position", "", ""),
    ("timm beitv2_base_patch16_224", "timm beit_base_patch16_224", "exact", "", "", ""),
    ("timm swinv2_tiny_window8_256", "timm swinv2_tiny_window8_256 window_size=16 img_size=256", "exact", "", "", ""),
    ("timm swinv2_tiny_window8_256", "timm swinv2_tiny_window8_256 num_classes=3", "backbone", "new_head", "", ""),
    ("timm maxvit_tiny_rw_224", "timm maxvit_tiny_rw_224 img_size=256", "partial", "resize_position", "", ""),
    ("timm maxvit_tiny_tf_224", "timm maxvit_tiny_tf_224 img_size=384", "partial", "resize_position", "", ""),
    ("timm deit3_small_patch16_224", "timm deit3_small_patch16_224 img_size=384", "partial", "resize_position", "", ""),
    ("timm vit_small_patch16_224", "timm deit3_small_patch16_224", "partial", "resize_position", "unfilled_trunk", ""),
    ("timm levit_128s", "timm levit_128s num_classes=3", "backbone", "new_head", "", ""),
    ("timm cait_xxs24_224", "timm cait_xxs24_224 img_size=384", "partial", "resize_position", "", ""),
    ("timm mobilevit_xxs", "timm mobilevit_xxs num_classes=2", "backbone", "new_head", "", ""),
    ("timm eva02_tiny_patch14_224", "timm eva02_tiny_patch14_224 img_size=336", "partial", "resize_position", "", ""),
    ("timm vit_small_patch14_reg4_dinov2", "timm vit_small_patch14_dinov2", "partial", "drop_extra resize_position", "truncated_trunk", ""),
    ("timm samvit_base_patch16", "timm samvit_base_patch16 img_size=512", "partial", "resize_position", "", ""),
    ("timm hiera_tiny_224", "timm hiera_tiny_224 img_size=256", "partial", "resize_position", "", ""),
    ("timm pvt_v2_b0", "timm pvt_v2_b1", "incompatible", "", "other_trunk", ""),
    ("timm test_byobnet", "timm test_byobnet in_chans=6", "partial", "adapt_first_conv", "", ""),
    ("timm convnext_atto", "timm convnext_atto in_chans=1 num_classes=2", "partial", "new_head adapt_first_conv", "", ""),
    ("timm mixer_b16_224", "timm mixer_b16_224 num_classes=2", "backbone", "new_head", "", ""),
    ("timm resnet18", "timm resnet18 in_chans=6", "partial", "adapt_first_conv", "", ""),
    ("timm resnet18", "timm resnet34", "partial", "", "unfilled_trunk", ""),
    ("timm resnet26", "tv resnet50", "partial", "", "unfilled_trunk", ""),
    ("prefix _orig_mod. timm vit_tiny_patch16_224", "timm vit_tiny_patch16_224 img_size=384 num_classes=5", "partial", "rename new_head resize_position", "", "_orig_mod.→"),
    ("lightning timm swin_tiny_patch4_window7_224", "timm swin_tiny_patch4_window7_224 num_classes=5", "backbone", "rename drop_extra new_head", "", "model.→"),
    ("hf GPT2LMHeadModel", "hf GPT2LMHeadModel n_positions=40", "partial", "resize_position", "", ""),
    ("hf GPT2LMHeadModel", "hf GPT2LMHeadModel n_positions=40 vocab_size=60", "partial", "resize_position resize_vocabulary", "", ""),
    ("hf GPT2LMHeadModel", "hf GPT2ForSequenceClassification", "backbone", "drop_extra new_head", "", ""),
    ("hf T5ForConditionalGeneration", "hf T5ForConditionalGeneration vocab_size=60", "partial", "resize_vocabulary", "", ""),
    ("hf LlamaForCausalLM", "hf LlamaForCausalLM vocab_size=60", "partial", "resize_vocabulary", "", ""),
    ("hf LlamaForCausalLM tie_word_embeddings=True", "hf LlamaForCausalLM vocab_size=60 tie_word_embeddings=True", "partial", "resize_vocabulary", "", ""),
    ("hf LlamaForCausalLM tie_word_embeddings=True vocab_size=60", "hf LlamaForCausalLM", "partial", "resize_vocabulary", "", ""),
    ("hf RobertaForMaskedLM", "hf RobertaForMaskedLM vocab_size=60", "partial", "resize_vocabulary", "", ""),
    ("hf BartForConditionalGeneration", "hf BartForConditionalGeneration vocab_size=60", "partial", "resize_vocabulary", "", ""),
    ("hf BertModel", "hf BertModel type_vocab_size=3", "partial", "resize_vocabulary", "", ""),
    ("hf BertForMaskedLM", "hf BertForTokenClassification num_labels=9", "backbone", "drop_extra new_head", "", ""),
    ("hf BertForPreTraining", "hf BertForMaskedLM", "superset", "drop_extra", "", ""),
    ("hf DistilBertForMaskedLM", "hf DistilBertForSequenceClassification", "backbone", "drop_extra new_head", "", ""),
    ("hf CLIPVisionModel", "hf CLIPVisionModel image_size=64", "partial", "resize_position", "", ""),
    ("hf CLIPModel", "hf CLIPVisionModel", "superset", "rename drop_extra", "", "vision_model.→"),
    ("hf CLIPModel", "hf CLIPTextModel", "superset", "rename drop_extra", "", "text_model.→"),
    ("hf ViTModel", "hf ViTModel patch_size=8", "partial", "resize_position", "", ""),
    ("hf ViTModel", "hf DeiTModel", "partial", "resize_position", "unfilled_trunk", ""),
    ("hf BeitModel", "hf BeitForImageClassification", "backbone", "rename new_head", "", "→beit."),
    ("hf Dinov2Model", "hf Dinov2Model image_size=64", "partial", "resize_position", "", ""),
    ("hf SiglipVisionModel", "hf SiglipVisionModel image_size=64", "partial", "resize_position", "", ""),
    ("hf MistralForCausalLM", "hf LlamaForCausalLM", "exact", "", "", ""),
    ("hf Qwen2ForCausalLM", "hf LlamaForCausalLM", "partial", "drop_extra", "truncated_trunk", ""),
    ("hf ElectraForPreTraining", "hf ElectraForSequenceClassification", "backbone", "drop_extra new_head", "", ""),
    ("prefix base_model.model. hf LlamaForCausalLM", "hf LlamaForCausalLM", "exact", "rename", "", "base_model.model.→"),
    ("prefix module. hf GPT2LMHeadModel", "hf GPT2LMHeadModel vocab_size=60", "partial", "rename resize_vocabulary", "", "module.→"),
    ("hf BertModel type_vocab_size=1", "hf BertModel", "partial", "resize_vocabulary", "", ""),
    ("hf BertForSequenceClassification", "hf BertForTokenClassification", "superset", "drop_extra", "", ""),
    ("hf BertForMaskedLM", "hf BertForPreTraining", "backbone", "new_head", "", ""),
    ("hf BertModel", "hf BertForMaskedLM", "backbone", "rename drop_extra new_head", "", "→bert."),
    ("tv resnet50", "smp Unet resnet50", "backbone", "rename drop_extra new_head", "", "→encoder."),
    ("tv resnet18", "smp FPN resnet18", "backbone", "rename drop_extra new_head", "", "→encoder."),
    ("tv resnet50", "smp DeepLabV3Plus resnet50", "backbone", "rename drop_extra new_head", "", "→encoder."),
    ("prefix module. tv resnet50", "smp Unet resnet50 classes=3", "backbone", "rename drop_extra new_head", "", "module.→encoder."),
    ("tv resnet34", "smp Unet resnet18", "partial", "rename drop_extra new_head", "truncated_trunk", "→encoder."),
    ("tv resnet18", "smp Unet resnet34", "partial", "rename drop_extra", "unfilled_trunk", "→encoder."),
    ("timm resnet18", "smp Unet tu-resnet18", "backbone", "rename drop_extra new_head", "", "→encoder.model."),
    ("tv mobilenet_v2", "smp Unet mobilenet_v2", "backbone", "rename drop_extra new_head", "", "→encoder."),
    ("tv vgg16", "smp Unet vgg16", "backbone", "rename drop_extra new_head", "", "→encoder."),
    ("tv densenet121", "smp Unet densenet121", "backbone", "rename drop_extra new_head", "", "→encoder."),
    ("timm efficientnet_b0", "smp Unet timm-efficientnet-b0", "backbone", "rename drop_extra new_head", "", "→encoder."),
    ("timm mobilenetv3_small_100", "smp Unet tu-mobilenetv3_small_100", "backbone", "rename drop_extra new_head", "", "→encoder.model."),
    ("smp Unet resnet18", "smp Unet resnet18", "exact", "", "", ""),
    ("smp Unet resnet18", "smp Unet resnet18 classes=5", "backbone", "new_head", "", ""),
    ("smp Unet resnet18", "smp Unet resnet18 in_channels=1", "partial", "adapt_first_conv", "", ""),
    ("smp Unet resnet18", "smp Unet resnet18 in_channels=1 classes=5", "partial", "new_head adapt_first_conv", "", ""),
    ("smp Unet resnet18", "smp Unet resnet18 aux=4", "backbone", "new_head", "", ""),
    ("smp Unet resnet18 aux=4", "smp Unet resnet18", "superset", "drop_extra", "", ""),
    ("smp Unet resnet18 aux=4", "smp Unet resnet18 aux=7", "backbone", "new_head", "", ""),
    ("smp Unet resnet18 aux=4", "smp Unet resnet18 aux=7 classes=3", "backbone", "new_head", "", ""),
    ("smp Unet resnet18", "smp Unet resnet18 encoder_depth=3", "incompatible", "", "truncated_trunk other_trunk", ""),
    ("smp Unet resnet18 encoder_depth=3", "smp Unet resnet18", "incompatible", "", "unfilled_trunk other_trunk", ""),
    ("smp Unet resnet18", "smp FPN resnet18", "partial", "drop_extra", "truncated_trunk unfilled_trunk other_trunk", ""),
    ("smp FPN resnet18", "smp Unet resnet18", "partial", "drop_extra", "truncated_trunk unfilled_trunk other_trunk", ""),
    ("smp Unet resnet18", "smp UnetPlusPlus resnet18", "partial", "drop_extra", "truncated_trunk unfilled_trunk", ""),
    ("smp Unet resnet18", "smp Linknet resnet18", "partial", "drop_extra", "truncated_trunk unfilled_trunk other_trunk", ""),
    ("smp Unet resnet34", "smp Unet resnet18", "partial", "drop_extra", "truncated_trunk", ""),
    ("smp Unet resnet18", "tv resnet18", "backbone", "rename drop_extra new_head", "", "encoder.→"),
    ("smp DeepLabV3Plus resnet50", "tv resnet50", "backbone", "rename drop_extra new_head", "", "encoder.→"),
    ("smp Unet resnet18 in_channels=1", "tv resnet18", "partial", "rename drop_extra new_head adapt_first_conv", "", "encoder.→"),
    ("part encoder smp Unet resnet18", "tv resnet18", "backbone", "rename new_head", "", "encoder.→"),
    ("part encoder smp Unet resnet18", "smp FPN resnet18", "backbone", "new_head", "", ""),
    ("lightning smp Unet resnet18", "smp Unet resnet18", "superset", "rename drop_extra", "", "model.→"),
    ("lightning smp Unet resnet18", "smp Unet resnet18 classes=4", "backbone", "rename drop_extra new_head", "", "model.→"),
    ("prefix module. smp Unet resnet18", "smp Unet resnet18", "exact", "rename", "", "module.→"),
    ("compiled smp Unet resnet18", "smp Unet resnet18", "exact", "rename", "", "encoder._orig_mod.→encoder."),
    ("averaged smp Unet resnet18", "smp Unet resnet18", "superset", "rename drop_extra", "", "module.→"),
    ("smp Unet resnet18", "tv fcn_resnet50", "incompatible", "", "unfilled_trunk other_trunk", "encoder.→backbone."),
    ("tv fcn_resnet50", "smp DeepLabV3 resnet50", "backbone", "rename drop_extra new_head", "", "backbone.→encoder."),
    ("tv deeplabv3_resnet50", "smp DeepLabV3 resnet50", "backbone", "rename drop_extra new_head", "", "backbone.→encoder."),
    ("smp Unet resnet18", "nested smp Unet resnet18", "backbone", "rename new_head", "", "→encoder."),
    ("smp UPerNet resnet18", "smp PAN resnet18", "partial", "drop_extra", "truncated_trunk unfilled_trunk other_trunk", ""),
    ("smp Linknet resnet18", "smp Linknet resnet18 classes=9", "backbone", "new_head", "", ""),
    ("smp DPT tu-vit_tiny_patch16_224", "smp DPT tu-vit_tiny_patch16_224 classes=3", "backbone", "new_head", "", ""),
    ("timm vit_tiny_patch16_224", "smp DPT tu-vit_tiny_patch16_224", "backbone", "rename new_head", "", "→encoder.model."),
    ("smp MAnet resnet18", "smp MAnet resnet18 classes=2", "backbone", "new_head", "", ""),
    ("smp PSPNet resnet18", "smp PSPNet resnet18 classes=2", "backbone", "new_head", "", ""),
    ("smp Unet mobilenet_v2", "tv mobilenet_v2", "backbone", "rename drop_extra new_head", "", "encoder.→"),
    ("half smp Unet resnet18", "smp Unet resnet18", "exact", "cast", "", ""),
    ("tv resnet50", "smp PSPNet resnet50", "backbone", "rename drop_extra new_head", "", "→encoder."),
    ("tv resnet50", "smp Unet resnet50 encoder_depth=3", "backbone", "rename drop_extra new_head", "", "→encoder."),
    ("tv resnet50", "smp Unet resnet50 in_channels=1", "partial", "rename drop_extra new_head adapt_first_conv", "", "→encoder."),
    ("tv resnext50_32x4d", "smp Unet resnext50_32x4d", "backbone", "rename drop_extra new_head", "", "→encoder."),
    ("tv resnet50", "smp Unet tu-resnet50", "backbone", "rename drop_extra new_head", "", "→encoder.model."),
    ("pair tv resnet18", "tv resnet18", "ambiguous", "", "", ""),
    ("tv resnet18", "pair tv resnet18", "ambiguous", "", "", ""),
    ("pair tv resnet18", "nested tv resnet18", "ambiguous", "", "", ""),
    ("twins tv resnet18", "tv resnet18", "ambiguous", "", "", ""),
    ("student tv resnet18", "tv resnet18", "superset", "drop_extra", "", ""),
    ("hf BertForMaskedLM vocab_size=60", "hf BertForMaskedLM", "partial", "resize_vocabulary", "", ""),
    ("hf CLIPVisionModel", "hf CLIPModel", "backbone", "rename new_head", "", "→vision_model."),
]
# fmt: on
_HEAVY = (
    "densenet",
    "efficientnet_b1",
    "swin_s",
    "convnext_small",
    "rcnn",
    "deeplab",
    "vit_base",
    "deit",
    "mobilenet_v3",
    "swin_tiny",
    "maxvit",
    "samvit",
    "beit",
    "BartFor",
    "cait",
    "smp DPT",
)
"""What takes long to build, for the slow part; more than a hundred pairs are left without."""
_SIZE_MISMATCH = re.compile(r"size mismatch for (\S+): copying")

pytestmark = pytest.mark.filterwarnings("ignore:for .*copying from a non-meta parameter:UserWarning")


def is_heavy(row):
    return any(heavy in words for heavy in _HEAVY for words in row[:2])


def as_parameters(row):
    return pytest.param(*row, id=f"{row[0]} into {row[1]}", marks=[pytest.mark.slow] if is_heavy(row) else [])


def ask_torch(module, state_dict):
    """Return what torch calls missing, unexpected and mismatched; it stops at mismatches, so it is asked twice.

    Torch itself: segmentation-models-pytorch has a `load_state_dict` of its own, which drops mismatches.
    """
    try:
        answer = nn.Module.load_state_dict(module, state_dict, strict=False)
    except RuntimeError as error:
        mismatched = set(_SIZE_MISMATCH.findall(str(error)))
        kept = OrderedDict((name, value) for name, value in state_dict.items() if name not in mismatched)
        if hasattr(state_dict, "_metadata"):
            kept._metadata = state_dict._metadata
        answer = nn.Module.load_state_dict(module, kept, strict=False)
        return set(answer.missing_keys) - mismatched, set(answer.unexpected_keys), mismatched
    return set(answer.missing_keys), set(answer.unexpected_keys), set()


@pytest.mark.parametrize(
    ("source", "target", "verdict", "needs", "reasons", "renames"),
    [as_parameters(row) for row in PAIRS if row[2] != "ambiguous"],
)
def test_the_report_is_what_torch_does(zoo, source, target, verdict, needs, reasons, renames):
    state_dict, module = zoo.saved(source), zoo.build(target)
    report = compare(architecture_of_state_dict(state_dict), architecture_of(module))

    renamed = report.renames.renamed(state_dict)
    moved = {report.renames.names[each.name] for each in report.unexpected}
    mismatched = {each.name for each in report.mismatched}
    assert ({*report.missing, *report.tied}, moved, mismatched) == ask_torch(module, renamed)

    changes = "; ".join(f"{strip}→{add}" for strip, add in report.renames.changes)
    found = (report.verdict, " ".join(report.needs), " ".join(report.reasons), changes)
    assert found == (verdict, needs, reasons, renames)
    assert len(str(report).splitlines()) <= 25


class PlanningHub:
    """Answers the printed code with what the load would do."""

    def __init__(self, source, target):
        self.source, self.target = source, target

    def check(self, _ref, _module, rename):
        return compare(self.source, self.target, rename=rename)

    def load_into(self, _ref, _module, **given):
        return make_plan(compare(self.source, self.target), self.source, self.target, LoadWishes(**given))

    def load_backbone(self, ref, module, **given):
        return self.load_into(ref, module, backbone=True, **given)


@pytest.mark.parametrize(("source", "target"), [as_parameters(row[:2]) for row in PAIRS if row[2] != "ambiguous"])
def test_the_printed_code_is_allowed_and_without_it_nothing_less_than_strict_is(zoo, source, target):
    have, want = architecture_of_state_dict(zoo.saved(source)), architecture_of(zoo.build(target))
    report, hub = compare(have, want), PlanningHub(have, want)
    code = next_code(report)
    assert bool(code) is (report.by_order or not report.reasons)
    if code:
        eval(code.removeprefix("report = "), {"hub": hub, "module": None})  # noqa: S307 - what we printed ourselves
    if report.loads:
        assert set(hub.load_into("REF", None).loaded) == {*report.matched, *report.tied}
    else:
        with pytest.raises(StateDictMismatchError):
            hub.load_into("REF", None)
    if report.reasons:
        with pytest.raises(StateDictMismatchError):
            hub.load_backbone("REF", None)


@pytest.mark.parametrize(
    ("source", "target"),
    [pytest.param(*row[:2], id=f"{row[0]} into {row[1]}") for row in PAIRS if row[2] == "ambiguous"],
)
def test_networks_that_fit_equally_well_are_never_chosen_silently(zoo, source, target):
    state_dict, module = zoo.saved(source), zoo.build(target)
    have, want = architecture_of_state_dict(state_dict), architecture_of(module)
    with pytest.raises(AmbiguousPrefixError) as raised:
        compare(have, want)
    candidates = raised.value.extra["candidates"]
    assert len(candidates) > 1
    assert {each["tensors"] for each in candidates} == {122}
    # What the error offers works when it is said.
    for each in candidates:
        report = compare(have, want, prefix=(each["strip"], each["add"]))
        assert len(report.matched) >= each["tensors"]


def test_the_table_has_enough_pairs_of_every_library():
    assert sum(not is_heavy(row) for row in PAIRS) >= 100
    for library, least in {"tv": 40, "timm": 20, "hf": 20, "smp": 25}.items():
        assert sum(f"{library} " in f"{row[0]} {row[1]}" for row in PAIRS) >= least
