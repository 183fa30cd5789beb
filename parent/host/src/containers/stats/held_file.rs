//! A file that is read again and again, from its beginning.
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Opens a file if it can be read: some can be opened, and say then that the kernel does not count.
pub fn readable(path: &str) -> Option<File> {
    let file = File::open(path).ok()?;
    whole(&file).map(|_| file)
}

/// From its beginning, each time.
pub fn whole(file: &File) -> Option<String> {
    let (mut bytes, mut buffer) = (Vec::new(), [0u8; 4096]);
    while bytes.len() < MOST {
        match file.read_at(&mut buffer, bytes.len() as u64).ok()? {
            0 => break,
            length => bytes.extend_from_slice(&buffer[..length]),
        }
    }
    String::from_utf8(bytes).ok()
}

/// Most bytes of one file.
const MOST: usize = 1 << 20;
