/* Latencies in 64 linear steps per power of two: a value is kept to within 1.6 %. */
#include "load.h"

#include <string.h>

#define STEPS 64
#define STEP_BITS 6

static uint64_t counts[64 * STEPS], total, greatest;

static unsigned find_place(uint64_t ns)
{
    if (ns < STEPS)
        return (unsigned)ns;
    unsigned power = 63 - (unsigned)__builtin_clzll(ns);
    return (power - STEP_BITS + 1) * STEPS + (unsigned)(ns >> (power - STEP_BITS) & (STEPS - 1));
}

static uint64_t find_value(unsigned place)
{
    unsigned power = place / STEPS, step = place % STEPS;
    return power == 0 ? step : (uint64_t)(STEPS + step) << (power - 1);
}

void record_latency(uint64_t ns)
{
    counts[find_place(ns)]++;
    total++;
    if (ns > greatest)
        greatest = ns;
}

void clear_latencies(void)
{
    memset(counts, 0, sizeof counts);
    total = greatest = 0;
}

uint64_t find_percentile(double share)
{
    uint64_t wanted = (uint64_t)(share * (double)total), seen = 0;
    for (unsigned place = 0; place < 64 * STEPS; place++)
        if ((seen += counts[place]) > wanted)
            return find_value(place);
    return greatest;
}

uint64_t find_greatest(void)
{
    return greatest;
}

uint64_t count_latencies(void)
{
    return total;
}
