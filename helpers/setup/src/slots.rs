//! What the slots of a plan hold.
use alloc::vec::Vec;

use rspawn_proto::ids::Slot;
use rspawn_sys::{Failure, Fd, Outcome};

/// What the slots of a plan hold.
#[derive(Default)]
pub struct Slots(Vec<Option<Fd>>);

impl Slots {
    pub fn fill(&mut self, slot: Slot, fd: Fd) {
        let index = slot.0 as usize;
        if self.0.len() <= index {
            self.0.resize_with(index + 1, || None);
        }
        self.0[index] = Some(fd);
    }

    /// What a slot holds, if it was filled.
    pub fn filled(&self, slot: Slot) -> Option<&Fd> {
        self.0.get(slot.0 as usize)?.as_ref()
    }

    /// The structural check has seen to it that the slot is filled; a slot is still never taken on trust.
    pub fn get(&self, slot: Slot) -> Outcome<&Fd> {
        self.filled(slot).ok_or_else(|| Failure::check("the slot is empty"))
    }
}
