use std::{io, sync::mpsc};

use serde_json::{Value, json};

use super::*;
use crate::sidecar::cache::cache_status::Level;

/// Hands over what is written, and then waits for leave to go on.
struct Slow {
    written: mpsc::Sender<Vec<u8>>,
    leave: mpsc::Receiver<()>,
}

impl Write for Slow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.written.send(bytes.to_vec()).map_err(|_| gone(()))?;
        self.leave.recv().map_err(|_| gone(()))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn slow() -> (AccessLog, mpsc::Receiver<Vec<u8>>, mpsc::Sender<()>) {
    let ((written, read), (go, leave)) = (mpsc::channel(), mpsc::channel());
    let log = AccessLog::to(Slow { written, leave });
    log.switch(true);
    (log, read, go)
}

const END: End = End { made: Made::Fresh(Level::Memory), bytes: 7, took: Duration::from_micros(1500) };

fn line(target: &str, fields: &[(&str, &str)]) -> Line {
    let mut request = Request::get(target);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let line = Line::of(&request.body(()).unwrap(), IpAddr::from([10, 0, 0, 1]));
    Line { status: Some(StatusCode::OK), ..line }
}

fn written(line: &Line) -> Value {
    serde_json::from_slice(&line.json(&END).unwrap()).unwrap()
}

#[test]
fn a_line_tells_of_a_request_and_not_of_who_made_it() {
    let fields = [
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        ("cookie", "secret"),
        ("authorization", "secret"),
    ];
    let mut told = written(&line("http://shop/a/b?token=secret", &fields));
    let time = told.as_object_mut().unwrap().remove("time").unwrap();
    assert!(time.as_str().unwrap().parse::<Timestamp>().is_ok(), "{time}");
    let expected = json!({
        "method": "GET", "path": "/a/b", "status": 200, "bytes": 7, "duration": 0.0015, "cache": "hit",
        "detail": "L1", "peer": "10.0.0.1", "trace": "4bf92f3577b34da6a3ce929d0e0e4736",
    });
    assert_eq!(told, expected);
}

#[test]
fn what_is_no_trace_is_left_out_and_a_long_path_is_cut() {
    let zeros = format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32));
    for wrong in ["", "x", "00-abc-1-01", "ff-4bf92f3577b34da6a3ce929d0e0e4736-1-01", &zeros] {
        assert_eq!(written(&line("/", &[("traceparent", wrong)])).get("trace"), None, "{wrong}");
    }
    let long = written(&line(&format!("/{}", "a".repeat(5000)), &[]));
    assert_eq!(long["path"].as_str().unwrap().len(), PATH);
}

#[test]
fn what_was_refused_before_it_was_a_request_has_neither_method_nor_path() {
    let request = Request::builder().method(REFUSED).uri("/").body(()).unwrap();
    let told = written(&Line::of(&request, IpAddr::from([10, 0, 0, 1])));
    assert_eq!((&told["method"], &told["path"]), (&json!(""), &json!("")));
}

#[test]
fn nobody_waits_for_a_reader_that_takes_nothing() {
    let (log, read, go) = slow();
    let line = line("/", &[]);
    log.write(&line, &END);
    // From here on the writer is held up.
    let first = read.recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(first.ends_with(b"\n"));
    let fit = MOST / first.len();
    let mut written = 0;
    while log.dropped() == 0 {
        log.write(&line, &END);
        written += 1;
        assert!(written < 2 * fit, "nothing is dropped");
    }
    assert!(log.lines.state.lock().waiting.len() <= MOST);
    for _ in 0..2 {
        go.send(()).unwrap();
    }
    log.flush(Duration::from_secs(10));
    let rest = read.recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!(rest.iter().filter(|byte| **byte == b'\n').count(), written - 1);
    assert_eq!(log.dropped(), 1);
}

#[test]
fn lines_that_cannot_be_written_are_counted() {
    let (log, read, go) = slow();
    drop((read, go));
    log.write(&line("/", &[]), &END);
    log.flush(Duration::from_secs(10));
    assert_eq!(log.dropped(), 1);
}
