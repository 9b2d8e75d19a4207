//! What a client may take of the sidecar. Each is generous to whoever means well.

use std::time::Duration;

/// The head of a request: four times what browsers and frameworks keep to.
pub const HEAD: usize = 32 * 1024;
/// The target alone: RFC 9112 §3 asks for 8,000 at least.
pub const TARGET: usize = 8 * 1024;
/// The fields of a request. Browsers send some twenty.
pub const FIELDS: usize = 100;
/// The fields at the end of a chunked body, all together.
pub const TRAILERS: usize = 16 * 1024;
/// The body of a request, which is streamed: what is larger is sent in parts by whoever means it.
pub const BODY: u64 = 1 << 30;
/// What hyper keeps of a connection in each direction. It has to hold a head.
pub const BUFFER: usize = HEAD;
/// What is read of a connection at once, and so the size of the pieces of a body. One byte less than hyper's buffer for
/// it, which it doubles when one is full, and which a piece keeps whole.
pub const PIECE: usize = 8 * 1024 - 1;

/// From the first byte of a head to its last; and to the first byte of a new connection.
pub const HEAD_TIME: Duration = Duration::from_secs(10);
/// Between two requests of a connection. Longer than ingresses keep one that they do not use (nginx: 60 s):
/// else they would send into one that ends.
pub const IDLE_TIME: Duration = Duration::from_secs(75);
/// After so long between two requests a connection is parked: see [`super::parking`].
pub const PARK_TIME: Duration = Duration::from_secs(5);
/// A client is waited for so long, in all, until [`STALL_BYTES`] of a body have come, or of an answer are taken.
pub const STALL_TIME: Duration = Duration::from_mins(1);
/// See [`STALL_TIME`]. A modem of 9600 baud carries fourteen times as much in it.
pub const STALL_BYTES: usize = 4 * 1024;
/// After the last answer what still comes is read and dropped for so long, and so many bytes of it; to
/// close at once would take the answer away from the client as well (RFC 9112 §9.6).
pub const LINGER_TIME: Duration = Duration::from_secs(2);
/// See [`LINGER_TIME`].
pub const LINGER_BYTES: usize = 256 * 1024;

/// A connection on which nothing comes for so long is asked whether its other end is there, and has as long again to
/// answer: while both sides of a stream are silent, nobody else would see that one of them is gone.
pub const ALIVE_TIME: Duration = Duration::from_mins(1);

/// Requests at once in one HTTP/2 connection: 100 is the least that RFC 9113 §6.5.2 recommends.
pub const STREAMS: u32 = 128;
/// What a client may send of one request before the application has taken it. The way is short here:
/// at 1 ms this is 32 MB/s.
pub const STREAM_WINDOW: u32 = 32 * 1024;
/// The same for all requests of a connection, so that some that do not go on hold up no others.
pub const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// What is kept of one answer for a client that does not take it.
pub const STREAM_BUFFER: usize = 16 * 1024;
/// How often a silent connection is asked whether somebody is there, and how long the answer may take.
pub const PING_TIME: Duration = Duration::from_secs(20);
