//! The keys by which a person ends a container that listens to nothing else: ^] three times within a second, as
//! systemd-nspawn has it. The terminal is raw meanwhile, so that ^C and ^Z are the payload's, which may be stopped.
use std::time::{Duration, Instant};

/// ^], as telnet(1) has it.
const KEY: u8 = 0x1d;

const WITHIN: Duration = Duration::from_secs(1);

/// When the key was pressed, the latest last.
#[derive(Debug, Default)]
pub struct Escape(Vec<Instant>);

impl Escape {
    /// Takes note of what was typed. True if that asks for the end.
    pub fn hear(&mut self, typed: &[u8], now: Instant) -> bool {
        for key in typed {
            match *key {
                KEY => self.0.push(now),
                _ => self.0.clear(),
            }
            self.0.retain(|pressed| now.duration_since(*pressed) < WITHIN);
            if self.0.len() == 3 {
                self.0.clear();
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_times_and_soon() {
        let began = Instant::now();
        let after = |milliseconds| began + Duration::from_millis(milliseconds);
        assert!(Escape::default().hear(b"ls\x1d\x1d\x1d", began));
        let mut keys = Escape::default();
        assert!(!keys.hear(b"\x1d", began) && !keys.hear(b"\x1d", after(400)) && keys.hear(b"\x1d", after(900)));
        assert!(!keys.hear(b"\x1d\x1d", after(950)), "it begins anew");
        let mut keys = Escape::default();
        assert!(!keys.hear(b"\x1d\x1d", began) && !keys.hear(b"\x1d", after(1100)), "too slowly");
        let mut keys = Escape::default();
        assert!(!keys.hear(b"\x1d\x1dx", began) && !keys.hear(b"\x1d", after(10)), "something between");
    }
}
