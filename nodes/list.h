/* Every node class: one line each. N(Name) stands for the descriptor weft_node_Name, in a file of its own or beside its kin. */
#ifndef WEFT_NODES_LIST_H
#define WEFT_NODES_LIST_H

#define WEFT_NODES(N) \
    /* loaders */ \
    N(CheckpointLoaderSimple) N(CheckpointLoader) N(DiffusersLoader) N(UNet2DLoader) N(UNETLoader) N(CLIPLoader) \
    N(VAELoader) N(LoraLoader) N(LoraLoaderModelOnly) \
    /* conditioning */ \
    N(CLIPTextEncode) N(CLIPSetLastLayer) \
    N(ConditioningCombine) N(ConditioningConcat) N(ConditioningAverage) N(ConditioningSetTimestepRange) \
    N(ConditioningSetArea) N(ConditioningSetMask) N(ConditioningZeroOut) \
    /* sampling */ \
    N(KSampler) N(KSamplerAdvanced) \
    /* stages */ \
    N(Tokenize) N(TextEncode) N(TensorToConditioning) N(ConditioningToTensor) \
    N(Scheduler) N(KScheduler) N(ScaleModelInput) N(SchedulerStep) N(SchedulerHandOver) N(Noise) N(RandomTimesteps) \
    N(AddNoise) N(UNetStep) N(CFGMix) N(LatentToTensor) N(TensorToLatent) N(ImageToTensor) N(TensorToImage) \
    N(Denoised) N(MatchNoise) N(Loss) \
    N(VAEMoments) N(VAESample) N(VAEReconstruct) \
    /* data and models for training */ \
    N(Dataset) N(DatasetBatch) \
    N(UNetFromConfig) N(CLIPFromConfig) N(VAEFromConfig) N(DiffusersSave) N(LoraCreate) N(LoraCreateText) \
    N(LoraSave) N(EmbeddingCreate) \
    /* latent */ \
    N(EmptyLatentImage) N(VAEDecode) N(VAEDecodeTiled) N(VAEEncode) N(VAEEncodeForInpaint) N(SetLatentNoiseMask) \
    N(LatentUpscale) N(LatentUpscaleBy) N(LatentCrop) N(LatentComposite) N(LatentFromBatch) N(RepeatLatentBatch) \
    /* image */ \
    N(LoadImage) N(SaveImage) N(PreviewImage) N(ImageScale) N(ImageScaleBy) N(ImageInvert) N(ImageBatch) N(ImageCrop) \
    N(ImagePadForOutpaint) N(EmptyImage) \
    /* mask */ \
    N(LoadImageMask) N(MaskToImage) N(ImageToMask) N(SolidMask) N(InvertMask) N(CropMask) N(ThresholdMask) \
    N(MaskComposite) N(FeatherMask) N(GrowMask) \
    /* util */ \
    N(PrimitiveInt) N(PrimitiveFloat) N(PrimitiveString) N(PrimitiveStringMultiline) N(PrimitiveBoolean) \
    N(PreviewAny) N(Reroute) N(Note) N(MarkdownNote)

#endif
