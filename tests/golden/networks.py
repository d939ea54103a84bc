"""Networks of torchvision, timm and transformers, cut down so that their structures can be reviewed by eye."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

Made = tuple[nn.Module, Any]


def image(size: int, *before: int) -> Tensor:
    return torch.zeros(1, 3, *before, size, size)


def _vision(path: str, *arguments: Any, size: int = 32, frames: tuple[int, ...] = (), **options: Any) -> Made:
    """A network of torchvision by its class or function."""
    import torchvision.models as models

    module, _, name = path.rpartition(".")
    place = models
    for part in filter(None, module.split(".")):
        place = getattr(place, part)
    return getattr(place, name)(*arguments, **options), image(size, *frames)


def _resnet(block: str, **options: Any) -> Made:
    from torchvision.models import resnet

    return _vision("resnet.ResNet", getattr(resnet, block), [1, 2, 1, 1], num_classes=10, **options)


def _efficient() -> Made:
    from torchvision.models.efficientnet import FusedMBConvConfig, MBConvConfig

    settings = [FusedMBConvConfig(2, 3, 1, 8, 16, 1), MBConvConfig(4, 3, 2, 16, 24, 2)]
    return _vision("efficientnet.EfficientNet", settings, 0.2, num_classes=10, last_channel=32)


def _mobile_v3() -> Made:
    from torchvision.models.mobilenetv3 import InvertedResidualConfig

    make = partial(InvertedResidualConfig, width_mult=1.0, dilation=1)
    settings = [make(8, 3, 24, 8, True, "RE", stride=1), make(8, 5, 32, 16, True, "HS", stride=2)]
    return _vision("mobilenetv3.MobileNetV3", settings, 48, num_classes=10)


def _convnext() -> Made:
    from torchvision.models.convnext import CNBlockConfig

    return _vision("convnext.ConvNeXt", [CNBlockConfig(8, 12, 1), CNBlockConfig(12, None, 2)], num_classes=10)


def _regnet() -> Made:
    from torchvision.models.regnet import BlockParams

    settings = BlockParams([1, 1, 1, 1], [16, 16, 32, 32], [8, 8, 8, 8], [1.0] * 4, [2] * 4, 0.25)
    return _vision("regnet.RegNet", settings, num_classes=10)


def _swin(version: int) -> Made:
    from torchvision.models import swin_transformer as swin

    kinds = {2: {"block": swin.SwinTransformerBlockV2, "downsample_layer": swin.PatchMergingV2}}
    return _vision(
        "swin_transformer.SwinTransformer", [4, 4], 12, [2, 1], [3, 6], [4, 4], num_classes=10, **kinds.get(version, {})
    )


def _segmenter(head: str) -> Made:
    from torchvision.models import resnet, segmentation
    from torchvision.models._utils import IntermediateLayerGetter

    whole = resnet.ResNet(resnet.BasicBlock, [1, 1, 1, 1], num_classes=2)
    backbone = IntermediateLayerGetter(whole, {"layer2": "aux", "layer3": "out"})
    if head == "fcn":
        made = segmentation.FCN(backbone, segmentation.fcn.FCNHead(256, 5), segmentation.fcn.FCNHead(128, 5))
    else:
        made = segmentation.DeepLabV3(backbone, segmentation.deeplabv3.DeepLabHead(256, 5, (2, 4)))
    return made, image(64)


def _video() -> Made:
    from torchvision.models.video import resnet

    kinds = ([resnet.Conv2Plus1D] * 4, [1, 1, 1, 1], resnet.R2Plus1dStem)
    return resnet.VideoResNet(resnet.BasicBlock, *kinds, num_classes=10), image(16, 4)


TORCHVISION: dict[str, Callable[[], Made]] = {
    "resnet-basic": partial(_resnet, "BasicBlock"),
    "resnext": partial(_resnet, "Bottleneck", groups=4, width_per_group=4),
    "vgg-bn": lambda: _vision("vgg11_bn", num_classes=10),
    "densenet": lambda: _vision("densenet.DenseNet", 4, (2, 2), 8, 2, num_classes=10),
    "squeezenet": lambda: _vision("squeezenet1_1", num_classes=10, size=64),
    "mobilenet-v2": lambda: _vision(
        "mobilenetv2.MobileNetV2", 10, inverted_residual_setting=[[1, 8, 1, 1], [4, 12, 2, 2]]
    ),
    "mobilenet-v3": _mobile_v3,
    "efficientnet-v2": _efficient,
    "convnext": _convnext,
    "regnet-y": _regnet,
    "shufflenet-v2": lambda: _vision("shufflenetv2.ShuffleNetV2", [1, 2, 1], [8, 16, 24, 32, 40], 10),
    "vit": lambda: _vision("vision_transformer.VisionTransformer", 32, 8, 2, 4, 24, 40, num_classes=10),
    "swin": partial(_swin, 1),
    "swin-v2": partial(_swin, 2),
    "maxvit": lambda: _vision("maxvit.MaxVit", (64, 64), 8, 4, [8], [1], 4, 0.1, num_classes=10, size=64),
    "fcn": partial(_segmenter, "fcn"),
    "deeplab": partial(_segmenter, "deeplab"),
    "r2plus1d": _video,
}


def _timm(name: str, size: int = 32, **options: Any) -> Made:
    import timm

    return timm.create_model(name, pretrained=False, num_classes=10, **options), image(size)


def _timm_class(path: str, *arguments: Any, size: int = 32, **options: Any) -> Made:
    module, name = path.split(".")
    made = getattr(import_module(f"timm.models.{module}"), name)
    return made(*arguments, num_classes=10, **options), image(size)


def _mixer(block: str, ratio: Any) -> Made:
    from timm.layers import GatedMlp, Mlp
    from timm.models import mlp_mixer

    mlp = GatedMlp if block == "SpatialGatingBlock" else Mlp

    kinds = {"block_layer": getattr(mlp_mixer, block), "mlp_layer": mlp, "mlp_ratio": ratio}
    return mlp_mixer.MlpMixer(10, 32, patch_size=8, num_blocks=1, embed_dim=24, **kinds), image(32)


VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 1, "num_heads": 3}
TIMM: dict[str, Callable[[], Made]] = {
    "vit": lambda: _timm("vit_tiny_patch16_224", **VIT),
    "vit-relative": lambda: _timm("vit_relpos_small_patch16_224", **VIT),
    "eva-rotary": lambda: _timm("eva02_tiny_patch14_224", **VIT),
    "beit": lambda: _timm("beit_base_patch16_224", **VIT),
    "cait-talking-heads": lambda: _timm("cait_xxs24_224", depth_token_only=1, **VIT),
    "xcit": lambda: _timm("xcit_nano_12_p8_224", cls_attn_layers=1, **VIT),
    "convit": lambda: _timm("convit_tiny", local_up_to_layer=1, **{**VIT, "depth": 2}),
    "mixer": partial(_mixer, "MixerBlock", (0.5, 4.0)),
    "gmlp": partial(_mixer, "SpatialGatingBlock", 4),
    "twins": lambda: _timm(
        "twins_svt_small",
        embed_dims=(12, 24),
        num_heads=(2, 4),
        mlp_ratios=(2, 2),
        depths=(2, 2),
        wss=(2, 2),
        sr_ratios=(2, 1),
    ),
    "pvt-v2": lambda: _timm(
        "pvt_v2_b0", depths=(1, 1), embed_dims=(8, 16), num_heads=(1, 2), sr_ratios=(2, 1), mlp_ratios=(2, 2)
    ),
    "levit": lambda: _timm(
        "levit_128s", img_size=64, size=64, embed_dim=(16, 24), depth=(1, 1), num_heads=(2, 3), key_dim=4
    ),
    "convmixer": lambda: _timm_class("convmixer.ConvMixer", 12, 1, kernel_size=3, patch_size=4),
    "poolformer": lambda: _timm_class("metaformer.MetaFormer", depths=(1, 1), dims=(8, 12)),
    "focalnet": lambda: _timm_class("focalnet.FocalNet", embed_dim=8, depths=(1, 1)),
    "repvgg": lambda: _timm("test_byobnet"),
    "resnest-split-attention": lambda: _timm("resnest14d", layers=(1, 1, 1, 1), channels=(8, 8, 16, 16), stem_width=4),
    "sknet": lambda: _timm("skresnet18", layers=(1, 1, 1, 1), channels=(16, 16, 32, 32)),
    "nfnet-weight-standardised": lambda: _timm("test_nfnet"),
    "res2net": lambda: _timm("res2net50_26w_4s", layers=(1, 1, 1, 1), channels=(8, 8, 16, 16)),
    "efficientnet-instance-statistics": lambda: _timm("test_efficientnet_evos"),
    "mambaout-gated": lambda: _timm("test_mambaout"),
    "coatnet": lambda: _timm("test_coatnet", size=64, img_size=64),
    "vit-swiglu": lambda: _timm("test_vit4", img_size=32, patch_size=8, depth=1),
    "starnet": lambda: _timm("starnet_s050", base_dim=8, depths=(1, 1, 1, 1)),
    "hiera": lambda: _timm_class("hiera.Hiera", (64, 64), embed_dim=12, num_heads=1, stages=(1, 1), q_pool=1, size=64),
    "volo-outlook": lambda: _timm_class(
        "volo.VOLO",
        (1, 1),
        32,
        patch_size=8,
        embed_dims=(12, 24),
        num_heads=(2, 3),
        mlp_ratio=2,
        downsamples=(True, False),
        outlook_attention=(True, False),
        post_layers=None,
        use_aux_head=False,
        use_mix_token=False,
    ),
    "edgenext": lambda: _timm_class(
        "edgenext.EdgeNeXt",
        dims=(8, 8, 16, 16),
        depths=(1, 1, 1, 2),
        global_block_counts=(0, 0, 0, 1),
        heads=(2, 2, 2, 2),
    ),
    "tnt": lambda: _timm_class(
        "tnt.TNT", 32, 8, embed_dim=24, inner_dim=8, depth=1, num_heads_inner=2, num_heads_outer=3
    ),
    "crossvit": lambda: _timm_class(
        "crossvit.CrossVit",
        32,
        (1.0, 0.5),
        (8, 4),
        embed_dim=(12, 24),
        depth=((1, 1, 0),),
        num_heads=(3, 3),
        mlp_ratio=(2.0, 2.0, 1.0),
    ),
}


def _words(count: int) -> dict[str, Tensor]:
    ids = torch.full((1, count), 7)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def _transformer(name: str, config: str, inputs: dict[str, Any], **options: Any) -> Made:
    import transformers

    return getattr(transformers, name)(getattr(transformers, f"{config}Config")(**options)), inputs


def _decoder(family: str, **options: Any) -> Made:
    inputs = {**_words(9), "use_cache": False}
    return _transformer(f"{family}ForCausalLM", family, inputs, **{**DECODER, **options})


def _encoder(name: str, family: str, **options: Any) -> Made:
    return _transformer(name, family, _words(9), **{**ENCODER, **options})


def _translator(family: str, **options: Any) -> Made:
    inputs = {**_words(9), "decoder_input_ids": torch.full((1, 5), 6), "use_cache": False}
    return _transformer(f"{family}ForConditionalGeneration", family, inputs, **options)


def _seer(name: str, family: str, size: int = 32, **options: Any) -> Made:
    return _transformer(name, family, {"pixel_values": image(size)}, **options)


def _detector(name: str, family: str, **options: Any) -> Made:
    import transformers

    backbone = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", out_features=["stage1", "stage2"]
    )
    common = {
        "use_timm_backbone": False,
        "backbone": None,
        "use_pretrained_backbone": False,
        "backbone_config": backbone,
    }
    layers = {"encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 4, "decoder_attention_heads": 4}
    sizes = {"d_model": 32, "encoder_ffn_dim": 40, "decoder_ffn_dim": 36, "num_queries": 7, "num_labels": 5}
    return _seer(name, family, 64, **common, **layers, **sizes, **options)


def _clip() -> Made:
    text = {**ENCODER, "bos_token_id": 1, "eos_token_id": 2}
    vision = {**SIZES, "num_attention_heads": 3, "image_size": 16, "patch_size": 8}
    inputs = {**_words(9), "pixel_values": image(16)}
    return _transformer("CLIPModel", "CLIP", inputs, text_config=text, vision_config=vision, projection_dim=20)


TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
SIZES = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 1}
ENCODER = {**SIZES, "vocab_size": 53, "num_attention_heads": 4, "max_position_embeddings": 16, "pad_token_id": 0}
DECODER = {**ENCODER, "num_key_value_heads": 2, **TOKENS}
PATCHES = {**SIZES, "num_attention_heads": 4, "image_size": 32, "patch_size": 8, "num_labels": 5}
SPEECH = {"conv_dim": (8, 12), "conv_stride": (5, 4), "conv_kernel": (10, 3), "num_conv_pos_embeddings": 8}
TRANSFORMERS: dict[str, Callable[[], Made]] = {
    "llama": lambda: _decoder("Llama", num_hidden_layers=2),
    "gemma3": lambda: _transformer(
        "Gemma3ForCausalLM", "Gemma3Text", {**_words(9), "use_cache": False}, **DECODER, head_dim=10
    ),
    "phi3-fused": lambda: _decoder("Phi3"),
    "qwen3-moe": lambda: _decoder(
        "Qwen3Moe", num_experts=3, num_experts_per_tok=2, moe_intermediate_size=12, head_dim=8
    ),
    "mixtral": lambda: _decoder("Mixtral", num_local_experts=3),
    "gpt-neox": lambda: _decoder("GPTNeoX"),
    "gpt2": lambda: _transformer(
        "GPT2LMHeadModel",
        "GPT2",
        {**_words(9), "use_cache": False},
        vocab_size=53,
        n_embd=24,
        n_layer=1,
        n_head=4,
        n_positions=16,
        **TOKENS,
    ),
    "falcon-parallel": lambda: _decoder("Falcon"),
    "bloom-alibi": lambda: _decoder("Bloom", n_layer=1, n_head=4),
    "deepseek-v3": lambda: _decoder(
        "DeepseekV3",
        num_key_value_heads=4,
        n_routed_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=12,
        n_shared_experts=1,
        q_lora_rank=10,
        kv_lora_rank=8,
        qk_rope_head_dim=4,
        qk_nope_head_dim=6,
        v_head_dim=8,
        first_k_dense_replace=0,
        n_group=2,
        topk_group=1,
    ),
    "mamba": lambda: _decoder("Mamba", state_size=5, time_step_rank=3),
    "mamba2": lambda: _decoder("Mamba2", state_size=5, num_heads=6, head_dim=8, expand=2, n_groups=2, chunk_size=4),
    "rwkv": lambda: _decoder("Rwkv", num_hidden_layers=2, attention_hidden_size=24, context_length=16),
    "lfm2-conv": lambda: _decoder("Lfm2", num_hidden_layers=2, layer_types=["conv", "full_attention"]),
    "bert": lambda: _encoder("BertForSequenceClassification", "Bert"),
    "albert-shared": lambda: _encoder("AlbertForMaskedLM", "Albert", embedding_size=12, num_hidden_layers=2),
    "deberta": lambda: _encoder(
        "DebertaV2ForMaskedLM", "DebertaV2", relative_attention=True, pos_att_type=["c2p", "p2c"]
    ),
    "modernbert": lambda: _encoder(
        "ModernBertForMaskedLM",
        "ModernBert",
        local_attention=8,
        **dict.fromkeys(("cls_token_id", "sep_token_id", "bos_token_id", "eos_token_id"), 1),
    ),
    "fnet": lambda: _transformer(
        "FNetModel", "FNet", {"input_ids": torch.full((1, 9), 7)}, vocab_size=53, **SIZES, max_position_embeddings=16
    ),
    "t5": lambda: _translator(
        "T5",
        vocab_size=53,
        d_model=24,
        d_kv=5,
        d_ff=40,
        num_layers=1,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        decoder_start_token_id=0,
    ),
    "bart": lambda: _translator(
        "Bart",
        vocab_size=53,
        d_model=24,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=4,
        decoder_attention_heads=3,
        encoder_ffn_dim=40,
        decoder_ffn_dim=36,
        max_position_embeddings=16,
        **TOKENS,
    ),
    "vit": lambda: _seer("ViTForImageClassification", "ViT", **PATCHES),
    "swin": lambda: _seer(
        "SwinForImageClassification",
        "Swin",
        image_size=32,
        patch_size=4,
        embed_dim=12,
        depths=[1, 1],
        num_heads=[2, 3],
        window_size=4,
        num_labels=5,
    ),
    "segformer": lambda: _seer(
        "SegformerForSemanticSegmentation",
        "Segformer",
        64,
        num_encoder_blocks=2,
        hidden_sizes=[8, 16],
        depths=[1, 1],
        num_attention_heads=[1, 2],
        sr_ratios=[2, 1],
        patch_sizes=[7, 3],
        strides=[4, 2],
        mlp_ratios=[2, 2],
        decoder_hidden_size=12,
        num_labels=5,
    ),
    "detr": lambda: _detector("DetrForObjectDetection", "Detr"),
    "yolos": lambda: _seer(
        "YolosForObjectDetection", "Yolos", **{**PATCHES, "image_size": [32, 32]}, num_detection_tokens=7
    ),
    "clip": _clip,
    "wav2vec2": lambda: _transformer(
        "Wav2Vec2ForCTC",
        "Wav2Vec2",
        {"input_values": torch.zeros(1, 400)},
        vocab_size=17,
        **SIZES,
        num_attention_heads=4,
        num_conv_pos_embedding_groups=2,
        **SPEECH,
    ),
    "whisper": lambda: _transformer(
        "WhisperForConditionalGeneration",
        "Whisper",
        {"input_features": torch.zeros(1, 10, 12), "decoder_input_ids": torch.full((1, 5), 6), "use_cache": False},
        vocab_size=53,
        d_model=24,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=40,
        decoder_ffn_dim=36,
        num_mel_bins=10,
        max_source_positions=6,
        max_target_positions=16,
        decoder_start_token_id=3,
        begin_suppress_tokens=None,
        suppress_tokens=None,
        **TOKENS,
    ),
    "sew": lambda: _transformer(
        "SEWForCTC",
        "SEW",
        {"input_values": torch.zeros(1, 400)},
        vocab_size=17,
        **SIZES,
        num_attention_heads=4,
        num_conv_pos_embedding_groups=2,
        **SPEECH,
    ),
    "videomae": lambda: _transformer(
        "VideoMAEForVideoClassification",
        "VideoMAE",
        {"pixel_values": torch.zeros(1, 4, 3, 32, 32)},
        **PATCHES,
        num_frames=4,
        tubelet_size=2,
    ),
}
SOURCES = {"torchvision": TORCHVISION, "timm": TIMM, "transformers": TRANSFORMERS}
