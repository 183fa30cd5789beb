//! Lists of CPUs and memory nodes, as the kernel writes them.

use crate::prelude::*;
/// Parses `0-3,7` into a bit mask of 64-bit words. Every number is below `most`.
pub fn bit_mask(list: &str, most: usize) -> Option<Vec<u64>> {
    let mut mask = Vec::new();
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last >= most {
            return None;
        }
        mask.resize(mask.len().max(last / 64 + 1), 0);
        (first..=last).for_each(|node| mask[node / 64] |= 1 << (node % 64));
    }
    Some(mask)
}

#[cfg(test)]
mod tests {
    use super::bit_mask;
    use crate::prelude::*;

    #[test]
    fn node_lists_become_masks() {
        assert_eq!(bit_mask("0-3,7", 4096), Some(vec![0b1000_1111]));
        assert_eq!(bit_mask("64", 4096), Some(vec![0, 1]));
        assert_eq!(bit_mask("", 4096), Some(vec![]));
        for bad in ["3-1", "a", "4096", "1-", "0-99999999999"] {
            assert_eq!(bit_mask(bad, 4096), None, "{bad}");
        }
    }
}
