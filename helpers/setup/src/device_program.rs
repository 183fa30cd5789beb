//! The program by which cgroup v2 decides about devices (BPF_PROG_TYPE_CGROUP_DEVICE), assembled from rules.
//!
//! It is straight-line code: rules are asked from the last to the first. Each way to use a device that is asked for
//! (read, write, mknod) is decided by the first rule met that speaks of it; one denial denies, and so does the end.
use alloc::vec::Vec;

use rspawn_proto::plan::{DeviceAccess, NodeKind, access};
use rspawn_sys::bpf::Instruction;

/// Registers: the verdict, the context, and what is asked for.
const VERDICT: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
/// Ways that no rule has allowed so far.
const WAYS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

/// Opcodes, `linux/bpf.h`; arithmetic and comparisons are those of 32 bits.
const LOAD_WORD: u8 = 0x61;
const COPY: u8 = 0xbc;
const SET: u8 = 0xb4;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const SKIP_IF_NOT: u8 = 0x56;
const SKIP_IF_ANY: u8 = 0x46;
const SKIP: u8 = 0x05;
const EXIT: u8 = 0x95;

/// BPF_DEVCG_DEV_*.
const BLOCK: i32 = 1;
const CHAR: i32 = 2;

fn op(code: u8, destination: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: destination, offset, immediate }
}

fn verdict(allowed: bool) -> [Instruction; 2] {
    [op(SET, VERDICT, 0, allowed.into()), op(EXIT, 0, 0, 0)]
}

/// Assembles the program.
pub fn assemble(rules: &[DeviceAccess]) -> Vec<Instruction> {
    // struct bpf_cgroup_dev_ctx: the kind in the low half of the first word and the ways in its high half, then the
    // two numbers.
    let load = |register: u8, offset| op(LOAD_WORD, register | CONTEXT << 4, offset, 0);
    let mut program = Vec::from([
        load(KIND, 0),
        op(COPY, WAYS | KIND << 4, 0, 0),
        op(SHIFT_RIGHT, WAYS, 0, 16),
        op(AND, WAYS, 0, access::ALL.into()),
        op(AND, KIND, 0, 0xffff),
        load(MAJOR, 4),
        load(MINOR, 8),
    ]);
    for rule in rules.iter().rev() {
        let decision = decide(rule);
        let kind = rule.kind.map(|kind| (KIND, if kind == NodeKind::Block { BLOCK } else { CHAR }));
        let number = |register, number: Option<u32>| number.map(|number| (register, number as i32));
        let conditions = [kind, number(MAJOR, rule.major), number(MINOR, rule.minor)];
        let conditions: Vec<(u8, i32)> = conditions.into_iter().flatten().collect();
        for (index, (register, value)) in conditions.iter().enumerate() {
            let past = conditions.len() - index - 1 + decision.len();
            program.push(op(SKIP_IF_NOT, *register, past as i16, *value));
        }
        program.extend(decision);
        if conditions.is_empty() && rule.access == access::ALL {
            // Nothing behind it would be reached, which the kernel's verifier refuses.
            return program;
        }
    }
    program.extend(verdict(false));
    program
}

/// What a rule does about a device that it speaks of.
fn decide(rule: &DeviceAccess) -> Vec<Instruction> {
    let ways = i32::from(rule.access);
    let [set, exit] = verdict(rule.allow);
    match (rule.access == access::ALL, rule.allow) {
        (true, _) => Vec::from([set, exit]),
        (false, true) => Vec::from([op(AND, WAYS, 0, !ways), op(SKIP_IF_NOT, WAYS, 2, 0), set, exit]),
        (false, false) => Vec::from([op(SKIP_IF_ANY, WAYS, 1, ways), op(SKIP, 0, 2, 0), set, exit]),
    }
}
