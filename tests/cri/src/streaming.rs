//! The streams of `Exec` and `Attach`: a websocket at the address that the call answers with, one channel a stream
//! (Kubernetes' `v4.channel.k8s.io`).
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;
use tungstenite::client::IntoClientRequest;
use tungstenite::{Message, WebSocket};

/// Longer than anything takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;

pub struct Stream {
    socket: WebSocket<TcpStream>,
    pub stdout: String,
    pub stderr: String,
    /// What the error channel says at the end, as JSON.
    pub outcome: Value,
}

impl Stream {
    #[track_caller]
    pub fn open(url: &str) -> Self {
        let address = url.strip_prefix("http://").and_then(|rest| rest.split('/').next()).expect("an address");
        let tcp = TcpStream::connect(address).expect("the streaming server listens");
        tcp.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut request = url.replacen("http:", "ws:", 1).into_client_request().expect("a request");
        let protocol = "v4.channel.k8s.io".parse().expect("a protocol's name");
        request.headers_mut().insert("Sec-WebSocket-Protocol", protocol);
        let (socket, _) = tungstenite::client(request, tcp).expect("a websocket");
        Self { socket, stdout: String::new(), stderr: String::new(), outcome: Value::Null }
    }

    fn send(&mut self, channel: u8, bytes: &[u8]) {
        let message = [&[channel], bytes].concat();
        self.socket.send(Message::binary(message)).expect("the stream takes it");
    }

    pub fn type_in(&mut self, bytes: &[u8]) {
        self.send(STDIN, bytes);
    }

    pub fn resize(&mut self, width: u16, height: u16) {
        self.send(RESIZE, format!("{{\"Width\": {width}, \"Height\": {height}}}").as_bytes());
    }

    /// Takes what comes next. False at the end.
    #[track_caller]
    fn receive(&mut self) -> bool {
        let bytes = match self.socket.read() {
            Ok(Message::Binary(bytes)) => bytes,
            Ok(Message::Close(_)) | Err(tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed) => {
                return false;
            }
            Ok(_) => return true,
            Err(error) => panic!("{error}; so far {:?} {:?}", self.stdout, self.stderr),
        };
        let Some((channel, content)) = bytes.split_first() else { return true };
        let text = String::from_utf8_lossy(content);
        match *channel {
            STDOUT => self.stdout.push_str(&text),
            STDERR => self.stderr.push_str(&text),
            // Every channel begins with an empty message.
            ERROR if !text.is_empty() => self.outcome = serde_json::from_str(&text).expect("JSON"),
            _ => {}
        }
        true
    }

    /// Reads until a text has come on stdout.
    #[track_caller]
    pub fn expect(&mut self, text: &str) {
        while !self.stdout.contains(text) {
            assert!(self.receive(), "{text:?} never came: {:?} {:?} {}", self.stdout, self.stderr, self.outcome);
        }
    }

    /// Reads to the end.
    #[track_caller]
    pub fn finish(mut self) -> Self {
        while self.receive() {}
        self
    }

    /// The exit code in the outcome; 0 where it is `Success`.
    #[track_caller]
    pub fn exit_code(&self) -> i64 {
        if self.outcome["status"] == "Success" {
            return 0;
        }
        let causes = self.outcome["details"]["causes"].as_array().expect("causes");
        let code = causes.iter().find(|cause| cause["reason"] == "ExitCode").expect("an exit code");
        code["message"].as_str().and_then(|text| text.parse().ok()).expect("a number")
    }
}
