//! The step that rspawn-setup is at, which it notes in memory that outlives it.
use rspawn_proto::report::{FinishStep, Place, SpawnStep};

/// The place that a progress word stands for: the other direction of `progress_word`.
pub fn place(word: u32) -> Option<Place> {
    let index = word as u16;
    Some(match word >> 16 {
        1 => Place::Receive,
        2 => Place::Check,
        3 => Place::Host(index),
        4 => Place::Spawn(*SPAWN_STEPS.get(index as usize)?),
        5 => Place::Attach(index),
        6 => Place::Rootfs(index),
        7 => Place::Finish(FinishStep::Receive),
        8 => Place::Supervise,
        _ => return None,
    })
}

const SPAWN_STEPS: [SpawnStep; 11] = [
    SpawnStep::SealInit,
    SpawnStep::TimeOffsets,
    SpawnStep::Join,
    SpawnStep::Clone,
    SpawnStep::IdMaps,
    SpawnStep::OomScore,
    SpawnStep::Worker,
    SpawnStep::Enter,
    SpawnStep::Cgroups,
    SpawnStep::Hooks,
    SpawnStep::Record,
];

#[cfg(test)]
mod tests {
    use rspawn_proto::codec;
    use rspawn_proto::report::progress_word;

    use super::*;

    /// rspawn-setup writes the words, this program reads them: a step that is new on one side is new on the other.
    #[test]
    fn every_place_survives_its_word() {
        let spawn_steps = (0u8..).map_while(|number| codec::decode_message::<SpawnStep>(&[number]).ok());
        let mut places: Vec<Place> = spawn_steps.map(Place::Spawn).collect();
        assert_eq!(places.len(), SPAWN_STEPS.len());
        places.extend([Place::Receive, Place::Check, Place::Supervise, Place::Finish(FinishStep::Receive)]);
        for index in [0, 1, 4095, u16::MAX] {
            places.extend([Place::Host(index), Place::Attach(index), Place::Rootfs(index)]);
        }
        for known in places {
            assert_eq!(place(progress_word(known)), Some(known));
        }
        assert_eq!((place(0), place(9 << 16), place(4 << 16 | 0xffff)), (None, None, None));
    }
}
