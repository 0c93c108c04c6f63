//! What the server gives up after its start, and that reloads work all the same.

mod support;

use std::{
    fs,
    os::unix::fs::{MetadataExt, chown, symlink},
    path::Path,
};

use support::{Dir, Server};

/// The value of a field of `/proc/PID/task/*/status`, for each thread.
fn of_threads(server: &Server, field: &str) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap();
    let mut values = Vec::new();
    for task in tasks {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(&format!("{field}:"))).unwrap();
        values.push(line.trim().to_owned());
    }
    assert!(values.len() > 3, "{values:?}");
    values
}

/// Reloads, and waits until the server has said so or why not; what it has said since then.
fn reload(server: &mut Server) -> String {
    let (output, errors) = (server.output().len(), server.errors().len());
    server.signal("HUP");
    server.wait_for(
        |server| {
            let said = &server.errors()[errors..];
            server.output()[output..].contains("SIGHUP signal completed") || said.contains("Failed to reload")
        },
        "the end of the reload",
    );
    server.errors()[errors..].to_owned()
}

fn rewrite(path: &Path, change: impl Fn(&str) -> String) {
    let changed = change(&fs::read_to_string(path).unwrap());
    // As editors and configuration managers do it: another file takes the name.
    let new = path.with_extension("new");
    fs::write(&new, changed).unwrap();
    fs::rename(&new, path).unwrap();
}

#[test]
fn every_thread_is_in_the_sandbox_and_the_banner_says_so() {
    let server = Server::start("");
    let banner = server.output();
    let line = banner.lines().find(|line| line.starts_with("Sandbox ")).unwrap();
    assert!(line.contains("limits privileges"), "{line}");
    assert!(of_threads(&server, "NoNewPrivs").iter().all(|value| value == "1"));
    let filtered = of_threads(&server, "Seccomp").iter().all(|value| value == "2");
    assert_eq!(filtered, line.contains("system calls (seccomp)"), "{line}");
    for path in ["/v1/status", "/v1/metrics", "/v1/ready"] {
        assert_eq!(server.call("GET", path, "").0, 200, "{path}");
    }
    let (_, status) = server.call("GET", "/v1/status", "");
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert!(status["mem_heap_used"].as_u64().unwrap() > 0, "{status}");
}

#[test]
fn an_audit_log_on_a_pipe_takes_nothing_from_the_sandbox() {
    let mut server = Server::start("log: { audit: on, file: /dev/stdout }\n");
    let without = Server::start("");
    let account = |server: &Server| {
        let output = server.output();
        output.lines().find(|line| line.starts_with("Sandbox")).unwrap().to_owned()
    };
    assert_eq!(account(&server), account(&without));
    for key in ["a", "b"] {
        assert_eq!(server.call("PUT", &format!("/v1/key/create/{key}"), "").0, 200);
        let event = format!("\"message\":\"secret key '{key}' created\"");
        server.wait_for(|server| server.output().contains(&event), "the event");
        assert!(!reload(&mut server).contains("Failed"));
    }
}

#[test]
fn it_can_be_switched_off() {
    let server = Server::start("sandbox: off\n");
    assert!(server.output().contains("Sandbox     off, by configuration\n"), "{}", server.output());
    assert!(of_threads(&server, "Seccomp").iter().all(|value| value == "0"));
}

#[test]
fn files_that_others_replace_or_link_elsewhere_are_read_again() {
    let dir = Dir::new();
    let app = dir.identity("app", &[]);
    for name in ["live", "archive", "logs"] {
        fs::create_dir(dir.join(name)).unwrap();
    }
    let renew = |number: u32| {
        dir.identity("server", &["--ip", "127.0.0.1", "--dns", "localhost"]);
        for kind in ["key", "crt"] {
            fs::rename(dir.join(&format!("server.{kind}")), dir.join(&format!("archive/{number}.{kind}")))
                .unwrap();
            let link = dir.join(&format!("live/server.{kind}"));
            let _ = fs::remove_file(&link);
            symlink(format!("../archive/{number}.{kind}"), &link).unwrap();
        }
        // The tests' client trusts what lies here.
        fs::copy(dir.join(&format!("archive/{number}.crt")), dir.join("server.crt")).unwrap();
    };
    renew(1);
    dir.write(
        "config.yml",
        &format!(
            "address: 127.0.0.1:0\nadmin: {{ identity: disabled }}\n\
             tls: {{ key: live/server.key, cert: live/server.crt }}\n\
             policy: {{ app: {{ allow: ['/v1/*'], identities: [{app}] }} }}\n\
             keystore: {{ fs: {{ path: ./keys }} }}\nlog: {{ file: logs/audit.log }}\n"
        ),
    );
    let mut server = Server::start_in(dir, app, &[]);
    assert_eq!(server.call("PUT", "/v1/key/create/first", "").0, 200);

    let archive = server.dir.join("archive");
    let other = Dir::new();
    other.identity("server", &["--ip", "127.0.0.1", "--dns", "localhost"]);
    for kind in ["key", "crt"] {
        fs::copy(other.join(&format!("server.{kind}")), archive.join(format!("2.{kind}"))).unwrap();
        let link = server.dir.join(&format!("live/server.{kind}"));
        fs::remove_file(&link).unwrap();
        symlink(format!("../archive/2.{kind}"), &link).unwrap();
    }
    fs::copy(archive.join("2.crt"), server.dir.join("server.crt")).unwrap();
    rewrite(&server.dir.join("config.yml"), |text| format!("{text}keys: [{{ name: second }}]\n"));
    fs::rename(server.dir.join("logs/audit.log"), server.dir.join("logs/audit.log.1")).unwrap();
    let said = reload(&mut server);
    assert!(!said.contains("Failed"), "{said}");
    // Only the new certificate is trusted by the client of this call.
    assert_eq!(server.call("GET", "/v1/key/list/", ""), (200, "{\"names\":[\"first\",\"second\"]}\n".into()));
    assert_eq!(server.call("DELETE", "/v1/key/delete/first", "").0, 200);
    assert!(fs::read_to_string(server.dir.join("logs/audit.log")).unwrap().contains("deleted"));
}

#[test]
fn a_reload_that_needs_other_files_changes_nothing_and_asks_for_a_restart() {
    let mut server = Server::start("");
    if !server.output().contains("Landlock") {
        eprintln!("this kernel has no Landlock");
        return;
    }
    assert_eq!(server.call("PUT", "/v1/key/create/here", "").0, 200);
    let elsewhere = Dir::new();
    let there = elsewhere.path().display();
    let config = server.dir.join("config.yml");
    let before = fs::read_to_string(&config).unwrap();
    for (from, to) in [
        ("path: ./keys", format!("path: {there}/keys")),
        ("path: ./keys", format!("path: {there}/not/there")),
        ("cert: server.crt", format!("cert: {there}/server.crt")),
        ("path: ./keys }", format!("path: ./keys, seal: {{ file: {there}/seal }} }}")),
        ("admin:", format!("log: {{ file: {there}/audit.log }}\nadmin:")),
    ] {
        for name in ["server.crt", "seal"] {
            fs::copy(server.dir.join("server.crt"), elsewhere.join(name)).unwrap();
        }
        let _ = fs::create_dir(elsewhere.join("keys"));
        assert!(before.contains(from), "{from}");
        rewrite(&config, |_| before.replace(from, &to));
        let said = reload(&mut server);
        assert!(said.contains("is out of reach of the sandbox") && said.contains("restart"), "{to}: {said}");
        assert_eq!(server.call("GET", "/v1/key/list/", ""), (200, "{\"names\":[\"here\"]}\n".into()));
        assert!(!elsewhere.join("audit.log").exists());
    }
    rewrite(&config, |_| before.clone());
    assert!(!reload(&mut server).contains("Failed"));
    // The same, but for a directory that has taken the place of the one of the start.
    fs::rename(server.dir.join("keys"), server.dir.join("keys.old")).unwrap();
    fs::create_dir(server.dir.join("keys")).unwrap();
    let said = reload(&mut server);
    assert!(said.contains("is out of reach of the sandbox"), "{said}");
    fs::remove_dir(server.dir.join("keys")).unwrap();
    fs::rename(server.dir.join("keys.old"), server.dir.join("keys")).unwrap();
    assert!(!reload(&mut server).contains("Failed"));
    assert_eq!(server.call("GET", "/v1/key/list/", "").0, 200);
}

#[test]
fn a_key_that_root_makes_belongs_to_the_owner_of_the_directory() {
    let server = Server::start("");
    let keys = server.dir.join("keys");
    if chown(&keys, Some(12_345), Some(12_346)).is_err() {
        eprintln!("only root can try this");
        return;
    }
    assert_eq!(server.call("PUT", "/v1/key/create/given", "").0, 200);
    let data = fs::metadata(keys.join("given")).unwrap();
    assert_eq!((data.uid(), data.gid()), (12_345, 12_346));
}
