/* A plugin of qemu's user mode that counts the instructions which the emulated program executes.
 *
 * It writes the count so far, a line each, whenever the program makes the marking system call (getppid, which has no
 * other use there):
 *
 *     qemu-aarch64 -plugin instruction_count.so,mark=173,into=FILE PROGRAM
 *
 * Declared here is the part of qemu's plugin interface (qemu-plugin.h) that is used, because Debian does not ship that
 * header. API_VERSION is 1 up to qemu 8.2 and 2 from 9.0 on: these functions are the same in both.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
typedef struct qemu_info_t qemu_info_t;
enum qemu_plugin_cb_flags { QEMU_PLUGIN_CB_NO_REGS };
typedef void (*on_translation)(qemu_plugin_id_t, struct qemu_plugin_tb *);
typedef void (*on_execution)(unsigned int, void *);
typedef void (*on_system_call)(qemu_plugin_id_t, unsigned int, int64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                               uint64_t, uint64_t, uint64_t, uint64_t);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, on_translation);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, on_execution, enum qemu_plugin_cb_flags, void *);
void qemu_plugin_register_vcpu_syscall_cb(qemu_plugin_id_t, on_system_call);

__attribute__((visibility("default"))) int qemu_plugin_version = API_VERSION;

static _Atomic uint64_t instructions;
static int64_t mark = -1;
static FILE *into;

static void executed(unsigned int cpu, void *count) { instructions += (uint64_t)(uintptr_t)count; }

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *block) {
    void *count = (void *)(uintptr_t)qemu_plugin_tb_n_insns(block);
    qemu_plugin_register_vcpu_tb_exec_cb(block, executed, QEMU_PLUGIN_CB_NO_REGS, count);
}

static void called(qemu_plugin_id_t id, unsigned int cpu, int64_t number, uint64_t a, uint64_t b, uint64_t c,
                   uint64_t d, uint64_t e, uint64_t f, uint64_t g, uint64_t h) {
    if (number == mark) {
        fprintf(into, "%llu\n", (unsigned long long)instructions);
        fflush(into);
    }
}

__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int count,
                                                               char **arguments) {
    for (int i = 0; i < count; i++) {
        if (strncmp(arguments[i], "mark=", 5) == 0) mark = atoll(arguments[i] + 5);
        if (strncmp(arguments[i], "into=", 5) == 0) into = fopen(arguments[i] + 5, "w");
    }
    if (mark < 0 || into == NULL) return 1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_vcpu_syscall_cb(id, called);
    return 0;
}
