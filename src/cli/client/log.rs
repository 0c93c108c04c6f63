//! `kes log`: the events of a server as they happen (`cli` §5.7).

use std::{
    io::{BufRead, BufReader},
    process::ExitCode,
};

use serde_json::Value;

use super::{FLAGS, Session, live, number, text};
use crate::{
    cli::{
        Failure,
        args::Args,
        help, output,
        table::{Command, Takes, flag},
        term::{self, Paint},
    },
    client::Stream,
    text::time::Timestamp,
};

/// Longest event in bytes.
const MAX_EVENT: u64 = 1 << 20;

/// `kes log`.
pub static LOG: Command = Command {
    name: "log",
    summary: "Show the log of a server as it is written.",
    about: "Shows events of a server as they happen, until it is ended by Ctrl-C: those of the audit log, or the messages\n\
            of the error log. Times are in UTC.\n",
    flags: &[
        flag("audit", Takes::Nothing, "Show the audit log. This is the default."),
        flag("error", Takes::Nothing, "Show the error log."),
        flag("follow", Takes::Nothing, "Wait for more. This is always so.").short(&['f']),
    ],
    common: FLAGS,
    examples: &["kes log", "kes log --error", "kes log --json >> audit.json"],
    run,
    ..Command::GROUP
};

fn run(args: &Args) -> Result<ExitCode, Failure> {
    let paint = Paint::new(args)?;
    let is_error = args.is_on("error");
    match (args.given("audit"), args.is_on("audit")) {
        (true, true) if is_error => {
            return Err(args.mistake("cannot show the audit log and the error log at once"));
        }
        (true, false) if !is_error => return help::usage(args),
        _ => {}
    }
    let mut session = Session::new(args)?;
    let is_json = args.is_on("json");
    let path = if is_error { "/v1/log/error" } else { "/v1/log/audit" };
    live::run(false, move |_| {
        let stream = session.client.stream(path).map_err(|error| session.failure(error))?;
        if !is_json && !is_error {
            let heading =
                format!("{:<12}{:<10}{:<24}{:<19}{:<34}Latency", "Time", "Status", "Identity", "IP", "API");
            term::print(&format!("{}\n", paint.heading(&heading)))?;
        }
        follow(stream, |event, raw| match (is_json, is_error) {
            (true, _) => output::json_line(raw),
            (false, true) => term::print(&format!("{}\n", term::visible(text(event, "message").trim_end()))),
            (false, false) => term::print(&row(paint, event)),
        })
    })
}

/// Hands out each event, also as it came.
fn follow(stream: Stream, mut show: impl FnMut(&Value, &[u8]) -> Result<(), Failure>) -> Result<(), Failure> {
    let mut lines = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = std::io::Read::take(&mut lines, MAX_EVENT).read_until(b'\n', &mut line);
        match read {
            Err(error) => {
                return Err(Failure::new(format!(
                    "the connection broke: {}",
                    crate::tls::pem::cause(&error)
                )));
            }
            Ok(0) => return Err(Failure::new("the server has ended the log")),
            Ok(_) if line.trim_ascii().is_empty() => {}
            Ok(_) => match serde_json::from_slice::<Value>(&line) {
                Ok(event) => show(&event, &line)?,
                Err(_) => return Err(Failure::new("the server sends something else than log events")),
            },
        }
    }
}

/// One event of the audit log as a row.
fn row(paint: Paint, event: &Value) -> String {
    let part = |name: &str| event.get(name).cloned().unwrap_or_default();
    let (request, response) = (part("request"), part("response"));
    let time = Timestamp::parse(text(event, "time"))
        .map_or("-".to_owned(), |time| Timestamp { nanos: 0, offset_minutes: 0, ..time }.to_string());
    let time = time.get(11..19).unwrap_or("-");
    let code = number(&response, "code");
    let status = format!("{code:<10}");
    let status = if code == 200 { paint.good(&status) } else { paint.bad(&status) };
    let identity: String = term::visible(text(&request, "identity")).chars().take(20).collect();
    let (ip, path) = (term::visible(text(&request, "ip")), term::visible(text(&request, "path")));
    let latency = number(&response, "time");
    // At least two blanks between what is too long and the next.
    format!(
        "{time:<12}{status}{identity:<24}{:<19}{:<34}{latency}ms\n",
        format!("{ip:<15}  "),
        format!("{path:<30}  ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_row_whatever_the_client_sent() {
        let event = serde_json::json!({
            "time": "2026-11-23T23:25:29.381723431Z",
            "request": { "ip": "127.0.0.1", "path": "/v1/key/create/a\u{1b}[31m\n", "identity": "180f".repeat(16) },
            "response": { "code": 200, "time": 4 }
        });
        let identity = "180f".repeat(5);
        let path = "/v1/key/create/a\u{fffd}[31m\u{fffd}";
        assert_eq!(
            row(Paint::PLAIN, &event),
            format!("23:25:29    200       {identity}    127.0.0.1          {path:<34}4ms\n")
        );
        let odd = row(Paint::PLAIN, &serde_json::json!({ "time": 5, "request": [], "response": "x" }));
        assert!(odd.starts_with("-           0"), "{odd}");
    }
}
