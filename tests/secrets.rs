//! What is left of secrets in the memory of the real server, read through `/proc/PID/mem`. Only root may read that: the
//! server forbids it to its own user, which is checked where the tests do not run as root.

mod support;

use std::{
    fs::{self, File},
    io::ErrorKind,
    os::unix::fs::FileExt,
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use support::{PATIENCE, Server, request};

/// The readable memory of the server, piece by piece; `None` if this process may not look.
fn memory_of(server: &Server) -> Option<Vec<Vec<u8>>> {
    let open = |name: &str| format!("/proc/{}/{name}", server.pid());
    let (maps, memory) = match (fs::read_to_string(open("maps")), File::open(open("mem"))) {
        (Ok(maps), Ok(memory)) => (maps, memory),
        (Err(error), _) | (_, Err(error)) => {
            assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
            return None;
        }
    };
    let mut pieces = Vec::new();
    for line in maps.lines().filter(|line| line.contains(" rw") && !line.ends_with("[vvar]")) {
        let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let (from, to) = (u64::from_str_radix(from, 16).unwrap(), u64::from_str_radix(to, 16).unwrap());
        // The server goes on meanwhile: a page may be gone.
        let mut piece = vec![0; (to - from) as usize];
        if memory.read_exact_at(&mut piece, from).is_ok() {
            pieces.push(piece);
        }
    }
    Some(pieces)
}

/// What is to be looked for: a secret's bytes, their base64 text, and the beginning of both.
fn traces(secret: &[u8]) -> [Vec<u8>; 2] {
    let text = STANDARD.encode(secret);
    [secret[..16].to_vec(), text.as_bytes()[..22].to_vec()]
}

/// How many of `secrets` are in the memory, raw or as text.
fn found(memory: &[Vec<u8>], secrets: &[Vec<u8>]) -> usize {
    secrets.iter().filter(|secret| traces(secret).iter().any(|trace| is_in(memory, trace))).count()
}

fn is_in(memory: &[Vec<u8>], trace: &[u8]) -> bool {
    memory.iter().any(|piece| {
        let mut rest = &piece[..];
        // Most of the memory does not even have the first byte pair.
        while let Some(at) = rest.windows(2).position(|pair| pair == &trace[..2]) {
            if rest[at..].starts_with(trace) {
                return true;
            }
            rest = &rest[at + 1..];
        }
        false
    })
}

/// Waits until the memory is so: the other threads of the server may be at it. Returns it.
fn wait_for(server: &Server, is_so: impl Fn(&[Vec<u8>]) -> bool, otherwise: &str) -> Vec<Vec<u8>> {
    let start = Instant::now();
    loop {
        let memory = memory_of(server).unwrap();
        if is_so(&memory) {
            return memory;
        }
        assert!(start.elapsed() < PATIENCE, "{otherwise}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The base64 member `name` of a JSON answer.
fn member(body: &str, name: &str) -> Vec<u8> {
    let text = body.split(&format!("\"{name}\":\"")).nth(1).unwrap().split('"').next().unwrap();
    STANDARD.decode(text).unwrap()
}

/// Bytes that nothing else has, and that do not lie in this process's order of bytes anywhere else.
fn marked(mark: u8) -> Vec<u8> {
    (0..32_u8).map(|i| i.wrapping_mul(73).wrapping_add(mark) ^ 0x5a).collect()
}

#[test]
fn no_secret_is_left_in_memory_after_its_use() {
    let server = Server::start("cache: { expiry: { any: 1h, unused: 1h } }\n");
    let mut client = server.connect("app", "http/1.1");
    let mut call = |method: &str, path: &str, body: &str| {
        client.send(request(method, path, body));
        let answer = client.read_reply();
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.body
    };

    let master = marked(1);
    let import = format!("{{\"key\":\"{}\",\"cipher\":\"AES256-GCM_SHA256\"}}", STANDARD.encode(&master));
    call("PUT", "/v1/key/import/mine", &import);
    let mut data_keys = Vec::new();
    for _ in 0..20 {
        let made = call("PUT", "/v1/key/generate/mine", "{}");
        data_keys.push(member(&made, "plaintext"));
        let sealed = STANDARD.encode(member(&made, "ciphertext"));
        let opened = call("PUT", "/v1/key/decrypt/mine", &format!("{{\"ciphertext\":\"{sealed}\"}}"));
        assert_eq!(member(&opened, "plaintext"), *data_keys.last().unwrap());
    }
    let own = marked(2);
    call("PUT", "/v1/key/encrypt/mine", &format!("{{\"plaintext\":\"{}\"}}", STANDARD.encode(&own)));
    if memory_of(&server).is_none() {
        return eprintln!("not root: the server's memory cannot be read, as it must be");
    }
    wait_for(
        &server,
        |memory| found(memory, &data_keys) == 0,
        "data keys are left while the connection is open",
    );
    // The bytes of the last requests stay in the buffer of their connection's TLS.
    drop(client);
    let memory = wait_for(
        &server,
        |memory| found(memory, std::slice::from_ref(&own)) == 0,
        "what was encrypted is left",
    );
    assert!(is_in(&memory, server.app.as_bytes()), "the scan finds nothing at all");
    assert!(is_in(&memory, &traces(&master)[0]), "a key in the cache is in memory");
    assert!(!is_in(&memory, &traces(&master)[1]), "the text of the imported key is left");
    assert_eq!(found(&memory, &data_keys), 0, "data keys are left");

    assert_eq!(server.call("DELETE", "/v1/key/delete/mine", "").0, 200);
    wait_for(&server, |memory| found(memory, std::slice::from_ref(&master)) == 0, "the deleted key is left");
}

#[test]
fn no_key_is_left_in_memory_when_its_time_in_the_cache_is_over() {
    let server = Server::start("cache: { expiry: { any: 2s, unused: 2s } }\n");
    let master = marked(3);
    let import = format!("{{\"key\":\"{}\",\"cipher\":\"ChaCha20\"}}", STANDARD.encode(&master));
    let (status, body) = server.call("PUT", "/v1/key/import/mine", &import);
    assert_eq!(status, 200, "{body}");
    assert_eq!(server.call("PUT", "/v1/key/generate/mine", "{}").0, 200);
    if memory_of(&server).is_none() {
        return eprintln!("not root: the server's memory cannot be read, as it must be");
    }
    wait_for(&server, |memory| found(memory, std::slice::from_ref(&master)) == 0, "the key is left");
    assert_eq!(server.call("PUT", "/v1/key/generate/mine", "{}").0, 200);
}

#[test]
fn the_server_leaves_no_core_file_and_is_not_to_be_debugged() {
    let server = Server::start("");
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.pid())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"], "{core}");
    // Files in /proc of a process that may not be dumped belong to root, whoever runs it (proc(5)).
    let owner =
        std::os::unix::fs::MetadataExt::uid(&fs::metadata(format!("/proc/{}/mem", server.pid())).unwrap());
    assert_eq!(owner, 0);
}
