/* `weft kernels`: which kernel takes which number type on which back end, and which operation needs it. */
#include <stdio.h>
#include <string.h>
#include "lua/cli.h"
#include "lua/commands.h"
#include "runtime/weft.h"

static void print_table(const weft_kernels *k) {
    printf("%s (%s)\n", k->name, k->describe());
    printf("  %-12s", "kernel");
    for (int t = 0; t < WEFT_DTYPE_COUNT; t++) printf(" %-4s", weft_dtype_name((weft_dtype)t));
    puts(" operations");
    int count;
    const weft_op *const *ops = weft_ops(&count);
    for (int i = 0; i < WEFT_KERNEL_COUNT; i++) {
        printf("  %-12s", weft_kernel_names[i]);
        for (int t = 0; t < WEFT_DTYPE_COUNT; t++) printf(" %-4s", k->types[i] >> t & 1 ? "yes" : "-");
        for (int j = 0; j < count; j++)
            if ((int)ops[j]->kernel == i) printf(" %s", ops[j]->name);
        putchar('\n');
    }
    putchar('\n');
}

static void print_json(const weft_kernels *const *tables, int count) {
    puts("[");
    for (int b = 0; b < count; b++) {
        printf("  {\"backend\": \"%s\", \"runs_on\": \"%s\", \"kernels\": {", tables[b]->name, tables[b]->describe());
        for (int i = 0; i < WEFT_KERNEL_COUNT; i++) {
            printf("%s\n    \"%s\": [", i ? "," : "", weft_kernel_names[i]);
            bool first = true;
            for (int t = 0; t < WEFT_DTYPE_COUNT; t++) {
                if (!(tables[b]->types[i] >> t & 1)) continue;
                printf("%s\"%s\"", first ? "" : ", ", weft_dtype_name((weft_dtype)t));
                first = false;
            }
            putchar(']');
        }
        printf("\n  }}%s\n", b + 1 < count ? "," : "");
    }
    puts("]");
}

int command_kernels(int argc, char **argv) {
    bool json = false;
    const cli_option options[] = { { "json", CLI_FLAG, &json, NULL, "print JSON", 0, 0, NULL }, { 0 } };
    const cli_command command = { "kernels", "[--json]", "Lists each kernel, the number types it takes on each back end, and the operations that need it.",
                                  NULL, options, 0, 0 };
    int plain, parsed = cli_parse(&command, argc, argv, &plain);
    if (parsed != CLI_RUN) return parsed == CLI_HELP ? 0 : 1;
    char why[1024];
    const weft_kernels *tables[3] = { weft_kernels_cpu(), weft_kernels_reference() };
    int count = 2;
    if ((tables[count] = weft_kernels_cuda(why, sizeof why))) count++;
    if (json) print_json(tables, count);
    else for (int i = 0; i < count; i++) print_table(tables[i]);
    if (!json && count < 3) printf("cuda: %s\n", why);
    return 0;
}
