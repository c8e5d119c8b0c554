/* A library in the place of libnvidia-ml.so.1: tells what the file NVML_STUB_STATE says, read anew at every call.
 *
 * One record on each line:
 *   driver VERSION
 *   gpu TOTAL FREE NAME...                        bytes; the first line is GPU 0
 *   process GPU compute|graphics PID USED [GI CI] bytes, or "na" where the driver does not tell
 *   error FUNCTION GPU|* CODE                     FUNCTION fails with CODE, for one GPU or always
 * Every call appends a line, FUNCTION CODE, to the file NVML_STUB_CALLS, where that is set.
 * Functions, structures and codes are those that the pynvml bindings declare.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SUCCESS 0
#define UNINITIALIZED 1
#define INVALID_ARGUMENT 2
#define INSUFFICIENT_SIZE 7
#define DRIVER_NOT_LOADED 9
#define NOT_AVAILABLE (~0ULL)
#define NO_INSTANCE 0xFFFFFFFFu
#define LINE 512
#define GPUS 16

typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned pid; unsigned long long used; unsigned gpu_instance, compute_instance; } process_t;
typedef struct { unsigned long long total, free; char name[128]; } gpu_t;

static int opened;
static int handles[GPUS];

static FILE *state(void)
{
    const char *path = getenv("NVML_STUB_STATE");
    return path ? fopen(path, "r") : NULL;
}

static int record(const char *function, int code)
{
    const char *path = getenv("NVML_STUB_CALLS");
    FILE *calls = path ? fopen(path, "a") : NULL;
    if (calls) {
        fprintf(calls, "%s %d\n", function, code);
        fclose(calls);
    }
    return code;
}

/* The code with which the state says that a call fails, else SUCCESS; gpu -1 for a call about none. */
static int failure(const char *function, int gpu)
{
    char line[LINE], name[128], which[16];
    int code, found = SUCCESS;
    FILE *file = state();
    if (!file)
        return DRIVER_NOT_LOADED;
    while (!found && fgets(line, sizeof line, file))
        if (sscanf(line, "error %127s %15s %d", name, which, &code) == 3 && !strcmp(name, function)
            && (!strcmp(which, "*") || atoi(which) == gpu))
            found = code;
    fclose(file);
    return found;
}

static int checked(const char *function, int gpu)
{
    int code = failure(function, gpu);
    return record(function, code ? code : opened ? SUCCESS : UNINITIALIZED);
}

/* How many GPUs there are; the one of that index is written to `out`. */
static int gpus(int index, gpu_t *out)
{
    char line[LINE];
    int count = 0;
    gpu_t gpu;
    FILE *file = state();
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "gpu %llu %llu %127[^\n]", &gpu.total, &gpu.free, gpu.name) == 3 && count++ == index)
            *out = gpu;
    if (file)
        fclose(file);
    return count;
}

static int index_of(int *handle)
{
    return handle >= handles && handle < handles + GPUS ? (int)(handle - handles) : -1;
}

static int described(const char *function, int *handle, gpu_t *out)
{
    int index = index_of(handle), code = checked(function, index);
    if (code)
        return code;
    return index >= 0 && index < gpus(index, out) ? SUCCESS : INVALID_ARGUMENT;
}

static int running(const char *function, const char *kind, int *handle, unsigned *count, process_t *out)
{
    char line[LINE], is[16], used[32];
    gpu_t gpu;
    int on, code = described(function, handle, &gpu);
    unsigned found = 0, room = *count;
    process_t one;
    FILE *file;
    if (code)
        return code;
    file = state();
    while (file && fgets(line, sizeof line, file)) {
        one.gpu_instance = one.compute_instance = NO_INSTANCE;
        if (sscanf(line, "process %d %15s %u %31s %u %u", &on, is, &one.pid, used, &one.gpu_instance,
                   &one.compute_instance) < 4 || on != index_of(handle) || strcmp(is, kind))
            continue;
        one.used = strcmp(used, "na") ? strtoull(used, NULL, 10) : NOT_AVAILABLE;
        if (out && found < room)
            out[found] = one;
        found++;
    }
    if (file)
        fclose(file);
    *count = found;
    return found > (out ? room : 0) ? INSUFFICIENT_SIZE : SUCCESS;
}

int nvmlInitWithFlags(unsigned flags)
{
    int code = record("nvmlInitWithFlags", failure("nvmlInitWithFlags", -1));
    (void)flags;
    if (!code)
        opened++;
    return code;
}

int nvmlShutdown(void)
{
    int code = checked("nvmlShutdown", -1);
    if (!code)
        opened--;
    return code;
}

const char *nvmlErrorString(int code)
{
    (void)code;
    return "an error of the stand-in";
}

int nvmlSystemGetDriverVersion(char *out, unsigned length)
{
    char line[LINE], version[80] = "0";
    int code = checked("nvmlSystemGetDriverVersion", -1);
    FILE *file = code ? NULL : state();
    while (file && fgets(line, sizeof line, file))
        sscanf(line, "driver %79s", version);
    if (file)
        fclose(file);
    snprintf(out, length, "%s", version);
    return code;
}

int nvmlDeviceGetCount_v2(unsigned *count)
{
    gpu_t gpu;
    int code = checked("nvmlDeviceGetCount_v2", -1);
    *count = code ? 0 : (unsigned)gpus(-1, &gpu);
    return code;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, int **handle)
{
    gpu_t gpu;
    *handle = index < GPUS ? handles + index : NULL;
    return described("nvmlDeviceGetHandleByIndex_v2", *handle, &gpu);
}

int nvmlDeviceGetName(int *handle, char *out, unsigned length)
{
    gpu_t gpu;
    int code = described("nvmlDeviceGetName", handle, &gpu);
    if (!code)
        snprintf(out, length, "%s", gpu.name);
    return code;
}

int nvmlDeviceGetMemoryInfo(int *handle, memory_t *out)
{
    gpu_t gpu;
    int code = described("nvmlDeviceGetMemoryInfo", handle, &gpu);
    if (!code)
        *out = (memory_t){gpu.total, gpu.free, gpu.total - gpu.free};
    return code;
}

int nvmlDeviceGetComputeRunningProcesses_v3(int *handle, unsigned *count, process_t *out)
{
    return running("nvmlDeviceGetComputeRunningProcesses_v3", "compute", handle, count, out);
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(int *handle, unsigned *count, process_t *out)
{
    return running("nvmlDeviceGetGraphicsRunningProcesses_v3", "graphics", handle, count, out);
}
