//! Properties of systemd's units, as far as a container's scope has them.
use alloc::vec::Vec;

use bincode::{Decode, Encode};

use crate::ids::Text;

/// A property of a unit of systemd's.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct UnitProperty {
    pub name: Text,
    pub value: UnitValue,
}

/// No kind of value can say which processes a unit gets (`au`), or what it runs (`a(sasb)`).
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum UnitValue {
    Text(Text),
    Flag(bool),
    Int32(i32),
    Uint32(u32),
    Int64(i64),
    Uint64(u64),
    Texts(Vec<Text>),
    /// Devices by their paths, each with a number.
    Devices(Vec<(Text, u64)>),
    Bytes(Vec<u8>),
}

/// What rspawn-scope is asked to do. The connection to the bus rides on the message.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct ScopeJob {
    pub unit: Text,
    /// The process of a scope that is to be made. Without one, the properties are for a scope that is there.
    pub pid: Option<i32>,
    pub properties: Vec<UnitProperty>,
}
