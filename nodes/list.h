/* Every node class: one line each. N(Name) stands for the descriptor weft_node_Name, in a file of its own or beside its kin. */
#ifndef WEFT_NODES_LIST_H
#define WEFT_NODES_LIST_H

#define WEFT_NODES(N) \
    /* loaders */ \
    N(CheckpointLoaderSimple) N(DiffusersLoader) N(UNETLoader) N(CLIPLoader) N(VAELoader) \
    /* conditioning */ \
    N(CLIPTextEncode) N(CLIPSetLastLayer) \
    /* sampling */ \
    N(KSampler) N(KSamplerAdvanced) \
    /* latent */ \
    N(EmptyLatentImage) N(VAEDecode) N(VAEEncode) \
    /* image */ \
    N(LoadImage) N(SaveImage) N(PreviewImage)

#endif
