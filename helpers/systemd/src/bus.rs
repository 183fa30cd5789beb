//! As much of D-Bus as a client of systemd's needs: method calls, their answers, and signals, over one connection.
//! The encoding is zbus's; what is a message is said here (D-Bus Specification, "Message Protocol").
use std::time::{Duration, Instant};

use rspawn_sys::{Fd, channel};
use serde::de::DeserializeOwned;
use zbus::wire::serialized::{Context, Data};
use zbus::wire::{LE, to_bytes};
use zbus::{ObjectPath, Type, Variant};

/// How long everything together may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Most bytes of a message: systemd's answers have a few hundred.
const MOST: usize = 1 << 20;

/// Types of messages.
const CALL: u8 = 1;
const RETURN: u8 = 2;
const ERROR: u8 = 3;
const SIGNAL: u8 = 4;

/// Header fields.
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

/// Byte order, type, flags, version, length of the body, serial, fields.
type Header<'a> = (u8, u8, u8, u8, u32, u32, Vec<(u8, Variant<'a>)>);

/// The part of a header that says how long the message is.
const FIXED: usize = 16;

pub enum Fault {
    /// The other side refuses: its error's name, and its words.
    Refused { name: String, words: String },
    /// The connection is of no more use.
    Broken(String),
}

pub type Outcome<T> = Result<T, Fault>;

fn broken(reason: impl std::fmt::Display) -> Fault {
    Fault::Broken(reason.to_string())
}

/// Whom a call is for.
pub struct Target {
    pub service: &'static str,
    pub path: &'static str,
    pub interface: &'static str,
}

/// A message that has arrived.
pub struct Incoming {
    kind: u8,
    answers: u32,
    error: String,
    member: String,
    body: Vec<u8>,
}

impl Incoming {
    pub fn is_signal(&self, member: &str) -> bool {
        self.kind == SIGNAL && self.member == member
    }

    pub fn body<T: DeserializeOwned + Type>(&self) -> Outcome<T> {
        let data = Data::new(self.body.as_slice(), Context::new(LE, 0));
        data.deserialize()
            .map(|(value, _)| value)
            .map_err(|error| broken(format!("a message is not as expected: {error}")))
    }
}

pub struct Bus {
    stream: Fd,
    deadline: Instant,
    serial: u32,
}

impl Bus {
    /// Begins to speak on a connection. Who it is, the bus asks the kernel: this process may have another number for
    /// its user than the bus has.
    pub fn begin(stream: Fd) -> Outcome<Self> {
        let mut bus = Self { stream, deadline: Instant::now() + PATIENCE, serial: 0 };
        bus.send(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
        for expected in ["DATA", "OK "] {
            let line = bus.line()?;
            if !line.starts_with(expected) {
                return Err(broken(format!("it does not accept the user: it says {line:?}")));
            }
        }
        bus.ask("Hello", &())?;
        Ok(bus)
    }

    /// Has signals of one name from one service sent here.
    pub fn listen(&mut self, target: &Target, member: &str) -> Outcome<()> {
        let Target { service, path, interface } = target;
        let rule = format!("type='signal',sender='{service}',path='{path}',interface='{interface}',member='{member}'");
        self.ask("AddMatch", &(rule.as_str(),))
    }

    /// Calls the bus itself.
    fn ask<T: serde::Serialize + Type>(&mut self, member: &str, arguments: &T) -> Outcome<()> {
        let itself = Target {
            service: "org.freedesktop.DBus",
            path: "/org/freedesktop/DBus",
            interface: "org.freedesktop.DBus",
        };
        self.call(&itself, member, arguments).map(drop)
    }

    /// Calls a method and waits for its answer. Arguments are a tuple.
    pub fn call<T: serde::Serialize + Type>(
        &mut self,
        target: &Target,
        member: &str,
        arguments: &T,
    ) -> Outcome<Incoming> {
        self.serial += 1;
        let message = encode(target, member, arguments, self.serial);
        let message = message.map_err(|error| broken(format!("cannot encode a message: {error}")))?;
        self.send(&message)?;
        loop {
            let incoming = self.next()?;
            match incoming.kind {
                RETURN if incoming.answers == self.serial => return Ok(incoming),
                ERROR if incoming.answers == self.serial => {
                    let words = incoming.body::<(String,)>().map_or(String::new(), |(words,)| words);
                    return Err(Fault::Refused { name: incoming.error, words });
                }
                // Signals that nobody waits for yet.
                _ => {}
            }
        }
    }

    /// The next message.
    pub fn next(&mut self) -> Outcome<Incoming> {
        let mut bytes = self.read(FIXED)?;
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]) as usize;
        let (body, fields) = (word(4), word(12));
        if bytes[0] != b'l' || body > MOST || fields > MOST {
            return Err(broken("it sent something that is not a message"));
        }
        let start = (FIXED + fields).next_multiple_of(8);
        bytes.extend(self.read(start - FIXED + body)?);
        let data = Data::new(&bytes[..start], Context::new(LE, 0));
        let (header, _): (Header, usize) =
            data.deserialize().map_err(|error| broken(format!("it sent something that is not a message: {error}")))?;
        let text = |code: u8| {
            let field = header.6.iter().find(|(known, _)| *known == code).map(|(_, value)| value);
            field.and_then(|value| value.downcast_ref::<&str>().ok()).unwrap_or_default().to_string()
        };
        let answers = header.6.iter().find(|(known, _)| *known == REPLY_SERIAL).map(|(_, value)| value);
        Ok(Incoming {
            kind: header.1,
            answers: answers.and_then(|value| value.downcast_ref::<u32>().ok()).unwrap_or(0),
            error: text(ERROR_NAME),
            member: text(MEMBER),
            body: bytes[start..].to_vec(),
        })
    }

    fn send(&self, bytes: &[u8]) -> Outcome<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let sent = self.stream.write_some(rest).map_err(|errno| broken(errno_text(errno)))?;
            rest = &rest[sent..];
        }
        Ok(())
    }

    /// A line of the conversation before the first message.
    fn line(&self) -> Outcome<String> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") && line.len() < 1024 {
            line.extend(self.read(1)?);
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_string())
    }

    fn read(&self, length: usize) -> Outcome<Vec<u8>> {
        let mut bytes = vec![0; length];
        let mut filled = 0;
        while filled < length {
            let left = self.deadline.saturating_duration_since(Instant::now()).as_millis() as u32;
            let ready = channel::wait_readable(&self.stream, Some(left)).map_err(|errno| broken(errno_text(errno)))?;
            if !ready {
                return Err(broken(format!("no answer within {} s", PATIENCE.as_secs())));
            }
            match self.stream.read(&mut bytes[filled..]).map_err(|errno| broken(errno_text(errno)))? {
                0 => return Err(broken("the connection was closed")),
                more => filled += more,
            }
        }
        Ok(bytes)
    }
}

/// A call as it goes over the wire.
fn encode<T: serde::Serialize + Type>(
    target: &Target,
    member: &str,
    arguments: &T,
    serial: u32,
) -> zbus::Result<Vec<u8>> {
    let body = to_bytes(Context::new(LE, 0), arguments)?;
    let fields = vec![
        (PATH, Variant::from(ObjectPath::try_from(target.path)?)),
        (INTERFACE, Variant::from(target.interface)),
        (MEMBER, Variant::from(member)),
        (DESTINATION, Variant::from(target.service)),
    ];
    let header: Header = (b'l', CALL, 0, 1, body.bytes().len() as u32, serial, fields);
    let mut message = to_bytes(Context::new(LE, 0), &header)?.bytes().to_vec();
    // A tuple's types have parentheses around them, those of arguments have none, and zbus's type of signatures cannot
    // be several types: this last field is written here.
    let types = T::SIGNATURE.to_string();
    let types = types.strip_prefix('(').and_then(|types| types.strip_suffix(')')).unwrap_or_default();
    if !types.is_empty() {
        message.resize(message.len().next_multiple_of(8), 0);
        message.extend([SIGNATURE, 1, b'g', 0, types.len() as u8]);
        message.extend(types.bytes().chain([0]));
        let length = (message.len() - FIXED) as u32;
        message[FIXED - 4..FIXED].copy_from_slice(&length.to_le_bytes());
    }
    message.resize(message.len().next_multiple_of(8), 0);
    message.extend_from_slice(body.bytes());
    Ok(message)
}

fn errno_text(errno: rspawn_sys::Errno) -> std::io::Error {
    std::io::Error::from_raw_os_error(errno.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Target = Target { service: "a.b", path: "/a/b", interface: "a.b.C" };

    /// What is written is what is read, whatever the arguments.
    #[test]
    fn messages_there_and_back() {
        let properties = vec![("Delegate", Variant::from(true)), ("PIDs", Variant::from(vec![7u32]))];
        let messages = [
            encode(&TARGET, "Hello", &(), 1).unwrap(),
            encode(&TARGET, "Get", &("name",), 2).unwrap(),
            encode(&TARGET, "Set", &("unit.scope", true, properties), 3).unwrap(),
            encode(&TARGET, "JobRemoved", &(5u32, ObjectPath::try_from("/job/5").unwrap(), "unit", "done"), 4).unwrap(),
        ];
        assert!(String::from_utf8_lossy(&messages[2]).contains("\u{8}\u{1}g\0\u{7}sba(sv)\0"));
        let (mine, theirs) = channel_pair();
        messages.iter().for_each(|message| theirs.write(message).unwrap());
        let mut bus = Bus { stream: mine, deadline: Instant::now() + PATIENCE, serial: 0 };
        let mut next = || bus.next().unwrap_or_else(|_| panic!("a message"));
        assert_eq!((next().member, next().member), ("Hello".into(), "Get".into()));
        assert_eq!(next().member, "Set");
        let signal = next();
        assert!(signal.kind == CALL && signal.error.is_empty() && signal.answers == 0);
        let body: (u32, zbus::OwnedObjectPath, String, String) = signal.body().unwrap_or_else(|_| panic!("a body"));
        assert_eq!((body.0, body.1.as_str(), body.3.as_str()), (5, "/job/5", "done"));
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        for bytes in [&b"B\x02\0\x01"[..], &b"l\x02\0\x01\xff\xff\xff\xff"[..], &[b'l'; 64][..]] {
            let (mine, theirs) = channel_pair();
            let mut sent = bytes.to_vec();
            sent.resize(64, 0);
            theirs.write(&sent).unwrap();
            drop(theirs);
            let mut bus = Bus { stream: mine, deadline: Instant::now() + PATIENCE, serial: 0 };
            assert!(matches!(bus.next(), Err(Fault::Broken(_))), "{bytes:?}");
        }
        // Nobody answers.
        let (mine, _theirs) = channel_pair();
        let mut bus = Bus { stream: mine, deadline: Instant::now(), serial: 0 };
        assert!(matches!(bus.next(), Err(Fault::Broken(reason)) if reason.contains("no answer")));
    }

    fn channel_pair() -> (Fd, Fd) {
        use std::os::fd::IntoRawFd;
        let (mine, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        (Fd::from_raw(mine.into_raw_fd()), Fd::from_raw(theirs.into_raw_fd()))
    }
}
