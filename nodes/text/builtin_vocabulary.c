/* CLIP's vocabulary as a part of the program, where the build found it: WEFT_CLIP_VOCABULARY is then the path of
 * OpenAI's text, unpacked and cut behind the last merge that counts (vocabulary.cmake). The assembler reads it, so the
 * build needs no program to turn it into C.
 */
#include "nodes/text/vocabulary.h"

#ifdef WEFT_CLIP_VOCABULARY
__asm__(".pushsection .rodata\n"
        ".balign 16\n"
        "weft_clip_vocabulary_first:\n"
        ".incbin \"" WEFT_CLIP_VOCABULARY "\"\n"
        "weft_clip_vocabulary_end:\n"
        ".byte 0\n"
        ".popsection\n");
extern const char weft_clip_vocabulary_first[], weft_clip_vocabulary_end[];

const char *weft_builtin_vocabulary(size_t *size) {
    *size = (size_t)(weft_clip_vocabulary_end - weft_clip_vocabulary_first);
    return weft_clip_vocabulary_first;
}
#else
const char *weft_builtin_vocabulary(size_t *size) {
    *size = 0;
    return NULL;
}
#endif
