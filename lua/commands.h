/* The commands of the `weft` program: one line each; a command is one file. They return the exit status. */
#ifndef WEFT_COMMANDS_H
#define WEFT_COMMANDS_H

/* C(name, summary) */
#define WEFT_COMMANDS(C) \
    C(run, "runs a graph") \
    C(check, "checks graphs and tells every fault") \
    C(nodes, "lists the node classes") \
    C(inspect, "tells what is in a picture, a graph or a model file") \
    C(convert, "prints a workflow in API format") \
    C(bench, "times models and operations on this machine") \
    C(kernels, "lists operations, back ends and number types")

#define C(name, summary) int command_##name(int argc, char **argv);
WEFT_COMMANDS(C)
#undef C

/* `weft SCRIPT.lua …`, `weft -e CODE …`: argv is the whole command line. Returns the exit status; −1 where it asks
 * for no script. */
int run_script(int argc, char **argv);

#endif
