//! The program behind `examples/quickstart.toml`: a small web server, a worker
//! that talks to it, and a job that fails. Standard library only; `run.sh` builds
//! it in a second.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "its output is what there is to look at"
)]

use std::{
    env,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{self, ExitCode},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

const USAGE: &str = "usage: quickstart web ADDRESS | worker ADDRESS | flaky SECONDS";

/// Longest wait for the other side of a connection.
const PATIENCE: Duration = Duration::from_millis(500);

/// Bytes of a request or an answer that are read at most.
const HEAD_BYTES_MAX: u64 = 8 << 10;

static STOPPING: AtomicBool = AtomicBool::new(false);
static REQUESTS: AtomicU64 = AtomicU64::new(0);

fn main() -> ExitCode {
    stop_on_sigterm();
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match args[..] {
        ["web", address] => parse(address).and_then(web),
        ["worker", address] => parse(address).map(worker),
        ["flaky", seconds] => parse(seconds).and_then(flaky),
        _ => Err(USAGE.to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

/// Answers requests until it is asked to stop.
fn web(address: SocketAddr) -> Result<(), String> {
    let bound = TcpListener::bind(address).and_then(|l| Ok((l.local_addr()?, l)));
    let (address, listener) = bound.map_err(|error| {
        format!(
            "cannot listen on {address}: {error}; PORT=8090 in the environment chooses another port"
        )
    })?;
    let start = Instant::now();
    println!("open http://{address}/ (pid {})", process::id());
    thread::spawn(move || {
        // One at a time: each takes at most twice the patience.
        for stream in listener.incoming() {
            if let Err(error) = stream.and_then(|stream| answer(stream, start)) {
                println!("a request was not answered: {error}");
            }
        }
    });
    sleep_until_stopped(Duration::MAX);
    println!(
        "asked to stop after {} requests; bye",
        REQUESTS.load(Ordering::Relaxed)
    );
    Ok(())
}

fn answer(mut stream: TcpStream, start: Instant) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new((&stream).take(HEAD_BYTES_MAX));
    let mut request = String::new();
    if reader.read_line(&mut request)? == 0 {
        // A browser that opened a connection in advance and did not need it.
        return Ok(());
    }
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    println!("{}", request.trim_end());
    let (status, kind, body) = match request.split(' ').nth(1) {
        Some("/") => ("200 OK", "text/html", page(start)),
        Some("/status") => ("200 OK", "text/plain", facts(start)),
        _ => (
            "404 Not Found",
            "text/plain",
            "there is / and /status".to_owned(),
        ),
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}; charset=utf-8\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len(),
    )
}

fn page(start: Instant) -> String {
    format!(
        "<!doctype html><meta http-equiv=refresh content=1><title>procession</title>\
         <body style='font: 1.5em sans-serif; margin: 3em'><h1>It runs</h1><p>{}</p>\
         <p>Kill it and watch it come back: <code>kill -9 {}</code></p>",
        facts(start),
        process::id(),
    )
}

fn facts(start: Instant) -> String {
    let requests = REQUESTS.fetch_add(1, Ordering::Relaxed) + 1;
    let seconds = start.elapsed().as_secs();
    format!("pid {}, request {requests}, up {seconds} s", process::id())
}

/// Asks the server every second and says what it sees.
fn worker(address: SocketAddr) {
    loop {
        match ask(address) {
            Ok(facts) => println!("web says: {facts}"),
            Err(error) => println!("web is down ({error}); trying again"),
        }
        if sleep_until_stopped(Duration::from_secs(1)) {
            println!("asked to stop; bye");
            return;
        }
    }
}

fn ask(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "GET /status HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut text = String::new();
    stream.take(HEAD_BYTES_MAX).read_to_string(&mut text)?;
    match text.split_once("\r\n\r\n") {
        Some((_, body)) => Ok(body.to_owned()),
        None => Err(io::Error::other("it hung up")),
    }
}

/// Works for a while, then fails.
fn flaky(seconds: u64) -> Result<(), String> {
    for left in (1..=seconds).rev() {
        println!("working, {left} s to go");
        if sleep_until_stopped(Duration::from_secs(1)) {
            println!("asked to stop; bye");
            return Ok(());
        }
    }
    Err("something went wrong".to_owned())
}

fn parse<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse()
        .map_err(|_| format!("cannot use {text:?}; {USAGE}"))
}

/// Sleeps; true as soon as it is asked to stop.
fn sleep_until_stopped(duration: Duration) -> bool {
    let start = Instant::now();
    while !STOPPING.load(Ordering::Relaxed) {
        let left = duration.saturating_sub(start.elapsed());
        if left.is_zero() {
            return false;
        }
        thread::sleep(left.min(Duration::from_millis(50)));
    }
    true
}

extern "C" fn on_sigterm(_: i32) {
    STOPPING.store(true, Ordering::Relaxed);
}

/// The standard library has no signals.
#[allow(unsafe_code)]
fn stop_on_sigterm() {
    const SIGTERM: i32 = 15;
    unsafe extern "C" {
        fn signal(number: i32, handler: extern "C" fn(i32)) -> usize;
    }
    // SAFETY: `signal` has this form on Unix, and the handler only stores to an
    // atomic, which may be done in a signal handler.
    unsafe {
        signal(SIGTERM, on_sigterm);
    }
}
