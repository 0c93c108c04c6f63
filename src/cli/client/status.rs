//! `kes status` and `kes ready` (`cli` §5.8, §7).

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{FLAGS, FLAGS_WITHOUT_S, Session, number, odd_reply, settings::duration, text};
use crate::{
    cli::{
        Failure,
        args::Args,
        output,
        table::{Command, Flag, Takes, flag},
        term::{self, Paint},
    },
    client::{Answer, Error, Request},
    crypto::SecretBytes,
    text::json::Object,
};

/// How often a server is asked that is waited for.
const INTERVAL: Duration = Duration::from_millis(200);

const WAIT: Flag =
    flag("wait", Takes::Value("DURATION"), "Ask again and again until the server is there, for so long.");

/// `kes status`.
pub static STATUS: Command = Command {
    name: "status",
    summary: "Show the status of a server.",
    about: "Shows whether a server can be reached, and how it is. The exit status is 0 if it can be reached, else 1.\n",
    flags: &[
        flag("short", Takes::Nothing, "Show only that it can be reached.").short(&['s']),
        flag("api", Takes::Nothing, "Show also the paths that it answers."),
        WAIT,
    ],
    common: FLAGS_WITHOUT_S,
    examples: &["kes status", "kes status --wait 30s --short"],
    run: status,
    ..Command::GROUP
};

/// `kes ready`.
pub static READY: Command = Command {
    name: "ready",
    summary: "Tell whether a server is ready.",
    about: "Tells whether a server and its key store are ready to serve. The exit status is 0 if they are, else 1.\n",
    flags: &[WAIT],
    common: FLAGS,
    examples: &["kes ready --wait 1m"],
    run: ready,
    ..Command::GROUP
};

fn status(args: &Args) -> Result<ExitCode, Failure> {
    let paint = Paint::new(args)?;
    let mut session = Session::new(args)?;
    let (answer, latency) = ask(args, &mut session, "/v1/status")?;
    let status: Value = serde_json::from_slice(&answer.body).map_err(|_| session.failure(odd_reply()))?;
    let routes = match args.is_on("api") {
        true => Some(routes(&mut session)?),
        false => None,
    };
    if args.is_on("json") {
        output::json(&match &routes {
            Some(routes) => output::array(routes.iter().map(route_object)),
            None => answer.body,
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut page = format!("{} {}\n", paint.good("●"), answer.from);
    if !args.is_on("short") {
        page.push_str(&details(paint, &status, latency));
    }
    if let Some(routes) = &routes {
        page.push_str(&route_table(paint, routes));
    }
    term::print(&page)?;
    Ok(ExitCode::SUCCESS)
}

fn ready(args: &Args) -> Result<ExitCode, Failure> {
    let paint = Paint::new(args)?;
    let mut session = Session::new(args)?;
    let (answer, _) = ask(args, &mut session, "/v1/ready")?;
    if args.is_on("json") {
        output::json(&Object::new(64).text("endpoint", &answer.from).raw("ready", b"true").end())?;
    } else {
        term::print(&format!("{} {} is ready\n", paint.good("●"), answer.from))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks once, or until there is an answer (`--wait`). Tells also how long the answer took.
fn ask(args: &Args, session: &mut Session, path: &str) -> Result<(Answer, Duration), Failure> {
    let request = Request { method: "GET", target: path, body: None, is_repeatable: true };
    let Some(text) = args.text("wait")? else {
        let start = Instant::now();
        let answer = session.client.call(&request).map_err(|error| session.failure(error))?;
        return Ok((answer, start.elapsed()));
    };
    let (begin, patience) = (Instant::now(), duration(args, "wait", text)?);
    loop {
        let start = Instant::now();
        // A server that says nothing must not use up more than the time that is left, but a last try gets a second.
        session.client.try_once(patience.saturating_sub(begin.elapsed()).max(Duration::from_secs(1)));
        let error = match session.client.call(&request) {
            Ok(answer) => return Ok((answer, start.elapsed())),
            Err(error) => error,
        };
        let may_change = match &error {
            Error::Connect { is_final, .. } => !is_final,
            Error::Broken { .. } => true,
            Error::Refused { status, .. } => *status >= 500,
        };
        if !may_change || begin.elapsed() >= patience {
            return Err(session.failure(error));
        }
        std::thread::sleep(INTERVAL);
    }
}

fn details(paint: Paint, status: &Value, latency: Duration) -> String {
    let mut page = String::new();
    let mut row =
        |label: &str, text: String| page.push_str(&format!("  {label:<10}{}\n", term::visible(&text)));
    let cpus = number(status, "num_cpu");
    row("Version", text(status, "version").to_owned());
    row("Uptime", uptime(number(status, "uptime")));
    row("Latency", format!("{}ms", latency.as_micros().div_ceil(1_000)));
    row("OS", text(status, "os").to_owned());
    row("CPUs", format!("{cpus} {}", text(status, "arch")));
    row("Memory", String::new());
    row("· Heap", size(number(status, "mem_heap_used")));
    row("· Stack", size(number(status, "mem_stack_used")));
    let is_lost = status.get("keystore_unreachable").and_then(Value::as_bool).unwrap_or(false);
    let store = match is_lost {
        true => paint.bad("unreachable"),
        false => format!("reachable, {}ms", number(status, "keystore_latency")),
    };
    page = page.lines().map(|line| [line.trim_end(), "\n"].concat()).collect();
    page + &format!("  {:<10}{store}\n", "Keystore")
}

fn routes(session: &mut Session) -> Result<Vec<Value>, Failure> {
    let list = session.get_json("/v1/api").map_err(|error| session.failure(error))?;
    let Value::Array(mut routes) = list else { return Err(session.failure(odd_reply())) };
    routes.sort_by(|a, b| text(a, "path").cmp(text(b, "path")));
    Ok(routes)
}

fn route_object(route: &Value) -> SecretBytes {
    let raw = |object: Object, member: &str| object.raw(member, number(route, member).to_string().as_bytes());
    let object = Object::new(128).text("method", text(route, "method")).text("path", text(route, "path"));
    raw(raw(object, "max_body"), "timeout").end()
}

fn route_table(paint: Paint, routes: &[Value]) -> String {
    let width = routes.iter().map(|route| text(route, "path").len()).max().unwrap_or(0).max(3) + 2;
    let heading = paint.heading(&format!("{:<8}{:<width$}Timeout", "Method", "API"));
    let mut table = format!("\n{heading}\n");
    for route in routes {
        let timeout = match number(route, "timeout") {
            0 => "Inf".to_owned(),
            seconds => format!("{seconds}s"),
        };
        let (method, path) = (term::visible(text(route, "method")), term::visible(text(route, "path")));
        table.push_str(&format!("{method:<8}{path:<width$}{timeout}\n"));
    }
    table
}

/// `55 seconds`, `3 minutes`, `5 hours`, `2 days 3 hours`; rounded.
pub fn uptime(seconds: u64) -> String {
    const HOUR: u64 = 3_600;
    let count = |n: u64, unit: &str| format!("{n} {unit}{}", if n == 1 { "" } else { "s" });
    match seconds {
        0..=60 => count(seconds, "second"),
        61..=HOUR => count((seconds + 30) / 60, "minute"),
        _ if seconds <= 24 * HOUR => count((seconds + HOUR / 2) / HOUR, "hour"),
        _ => {
            let hours = (seconds + HOUR / 2) / HOUR;
            format!("{} {}", count(hours / 24, "day"), count(hours % 24, "hour"))
        }
    }
}

/// `557.1KB`, `3.8MB`.
pub fn size(bytes: u64) -> String {
    let mut unit = ("B", 1);
    for next in [("KB", 1_000), ("MB", 1_000_000), ("GB", 1_000_000_000)] {
        if bytes >= next.1 {
            unit = next;
        }
    }
    match unit.1 {
        1 => format!("{bytes}B"),
        scale => format!("{}.{}{}", bytes / scale, bytes % scale * 10 / scale, unit.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_for_people() {
        for (seconds, text) in [
            (1, "1 second"),
            (55, "55 seconds"),
            (90, "2 minutes"),
            (3_600, "60 minutes"),
            (3_601, "1 hour"),
            (86_400, "24 hours"),
            (100_000, "1 day 4 hours"),
        ] {
            assert_eq!(uptime(seconds), text);
        }
        for (bytes, text) in [
            (0, "0B"),
            (999, "999B"),
            (557_100, "557.1KB"),
            (3_899_999, "3.8MB"),
            (u64::MAX, "18446744073.7GB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
