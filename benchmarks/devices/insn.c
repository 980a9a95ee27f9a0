// A plugin of qemu's user mode: counts the guest's instructions between the no-ops hint #0x60 and
// hint #0x61, and writes {"regions": [n, ...]} to the file of its argument "out".
//
// Exact for one thread: the counter is not locked. Debian has no qemu-plugin.h, so that what is
// used of version 1 of the interface is declared here.
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef void (*instruction_callback)(unsigned int vcpu, void *data);

extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t i);
extern const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);
extern void qemu_plugin_register_vcpu_tb_trans_cb(
    qemu_plugin_id_t id, void (*translated)(qemu_plugin_id_t, struct qemu_plugin_tb *));
extern void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn,
                                                   instruction_callback callback, int registers,
                                                   void *data);
extern void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *insn, int operation,
                                                       void *counter, uint64_t operand);
extern void qemu_plugin_register_atexit_cb(qemu_plugin_id_t id,
                                           void (*callback)(qemu_plugin_id_t, void *), void *data);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

enum { NO_REGISTERS = 0, ADD = 0, MOST_REGIONS = 1 << 16 };
static const uint32_t BEGIN = 0xd5032c1f, END = 0xd5032c3f;  // hint #0x60, hint #0x61

static uint64_t executed, begun, regions[MOST_REGIONS];
static size_t count;
static bool is_open;
static char out[4096];

static void begin(unsigned int vcpu, void *data) {
  (void)vcpu, (void)data;
  begun = executed;
  is_open = true;
}

static void end(unsigned int vcpu, void *data) {
  (void)vcpu, (void)data;
  if (is_open && count < MOST_REGIONS) regions[count++] = executed - begun;
  is_open = false;
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb) {
  (void)id;
  for (size_t i = 0; i < qemu_plugin_tb_n_insns(tb); ++i) {
    struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
    uint32_t code;
    memcpy(&code, qemu_plugin_insn_data(insn), sizeof code);
    if (code == BEGIN || code == END) {
      qemu_plugin_register_vcpu_insn_exec_cb(insn, code == BEGIN ? begin : end, NO_REGISTERS, NULL);
    } else {
      qemu_plugin_register_vcpu_insn_exec_inline(insn, ADD, &executed, 1);
    }
  }
}

static void write_regions(qemu_plugin_id_t id, void *data) {
  (void)id, (void)data;
  FILE *file = fopen(out, "w");
  if (!file) return;  // the caller misses the file and says so
  fprintf(file, "{\"regions\": [");
  for (size_t i = 0; i < count; ++i) fprintf(file, "%s%" PRIu64, i ? ", " : "", regions[i]);
  fprintf(file, "]}\n");
  fclose(file);
}

__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t id,
                                                               const void *info, int argc,
                                                               char **argv) {
  (void)info;
  if (argc != 1 || strncmp(argv[0], "out=", 4) != 0 || strlen(argv[0] + 4) >= sizeof out) return 1;
  strcpy(out, argv[0] + 4);
  qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
  qemu_plugin_register_atexit_cb(id, write_regions, NULL);
  return 0;
}
