/* SPDX-License-Identifier: Apache-2.0 */
/* One GPU of a known appetite: every call of the energy counter is 2.5 J later, and it is at its power cap. */
#include <string.h>

struct sample {
  unsigned long long microseconds;
  union {
    double real;
    unsigned int integer;
    unsigned long long wide;
  } value;
};

static int device;
static unsigned long long millijoules = 1000000;

int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }
const char* nvmlErrorString(int result) { return result == 6 ? "Not Found" : "Unknown Error"; }
int nvmlDeviceGetHandleByPciBusId_v2(const char* bus_id, void** found) {
  if (strcmp(bus_id, "0000:3b:00.0") != 0) return 6;
  *found = &device;
  return 0;
}
int nvmlDeviceGetTotalEnergyConsumption(void* of, unsigned long long* energy) {
  if (of != &device) return 2;
  *energy = millijoules += 2500;
  return 0;
}
int nvmlDeviceGetSamples(void* of, int type, unsigned long long since, int* value_type, unsigned int* count,
                         struct sample* samples) {
  if (of != &device || type != 1 || since == 0 || *count < 2) return 2;
  *value_type = 1;
  *count = 2;
  samples[0].microseconds = since + 1;
  samples[0].value.integer = 60;
  samples[1].microseconds = since + 2;
  samples[1].value.integer = 90;
  return 0;
}
int nvmlDeviceGetClockInfo(void* of, int type, unsigned int* megahertz) {
  *megahertz = 1755;
  return of == &device && type == 1 ? 0 : 2;
}
int nvmlDeviceGetPowerUsage(void* of, unsigned int* milliwatts) {
  *milliwatts = 312500;
  return of == &device ? 0 : 2;
}
/* Idle (no throttling), power cap, and a bit of a driver to come. */
int nvmlDeviceGetCurrentClocksThrottleReasons(void* of, unsigned long long* reasons) {
  *reasons = 0x1 | 0x4 | 0x8000;
  return of == &device ? 0 : 2;
}
int nvmlDeviceGetName(void* of, char* text, unsigned int length) {
  strncpy(text, "Fake H100", length);
  return of == &device ? 0 : 2;
}
int nvmlDeviceGetUUID(void* of, char* text, unsigned int length) {
  strncpy(text, "GPU-1234", length);
  return of == &device ? 0 : 2;
}
int nvmlSystemGetDriverVersion(char* text, unsigned int length) {
  strncpy(text, "580.1", length);
  return 0;
}
