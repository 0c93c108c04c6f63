//! Which server a client command asks, and who it is there: flags, environment, files (`cli` §2).

mod support;
#[path = "support/terminal.rs"]
mod terminal;

use std::net::TcpListener;

use support::{Dir, Server};
use terminal::{Env, Ran, Terminal, api_key, is_like, piped};

fn run(server: &Server, env: Env<'_>, args: &[&str]) -> Ran {
    let address = server.address.to_string();
    let base = [("SSL_CERT_FILE", "server.crt"), ("KES_SERVER", address.as_str())];
    piped(server.dir.path(), &[&base, env].concat(), args, "")
}

fn succeeds(server: &Server, env: Env<'_>, args: &[&str]) {
    let ran = run(server, env, args);
    let expected = format!("● {}\n", server.address);
    assert_eq!((ran.code, ran.out, ran.err), (0, expected, String::new()), "{env:?} {args:?}");
}

fn fails(dir: &Dir, env: Env<'_>, args: &[&str], pattern: &str) {
    let ran = piped(dir.path(), env, args, "");
    assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{env:?} {args:?}: {ran:?}");
    assert!(is_like(&ran.err, pattern), "{env:?} {args:?}: {:?} is not like {pattern:?}", ran.err);
}

#[test]
fn a_client_logs_in_with_an_api_key_or_with_files() {
    let server = Server::start("");
    let key = api_key(&server);
    server.dir.write("key.txt", &format!("{key}\n"));
    let short = ["status", "-s"];
    for name in ["MINIO_KES_API_KEY", "KES_API_KEY", "MINIO_KMS_KES_API_KEY"] {
        succeeds(&server, &[(name, &key)], &short);
    }
    succeeds(&server, &[("KES_API_KEY", key.trim_start_matches("kes:v1:"))], &short);
    succeeds(&server, &[("KES_API_KEY_FILE", "key.txt")], &short);
    for key in ["MINIO_KES_KEY_FILE", "KES_CLIENT_KEY", "MINIO_KES_CLIENT_KEY"] {
        for cert in ["MINIO_KES_CERT_FILE", "KES_CLIENT_CERT", "MINIO_KES_CLIENT_CERT"] {
            succeeds(&server, &[(key, "app.key"), (cert, "app.crt")], &short);
        }
    }
    // Flags beat the whole environment, and what is empty is not set.
    let other = [("KES_CLIENT_KEY", "none.key"), ("KES_CLIENT_CERT", "none.crt"), ("MINIO_KES_SERVER", "")];
    succeeds(&server, &other, &["status", "-s", "--api-key", &key]);
    succeeds(&server, &[("KES_API_KEY", "none")], &["status", "-s", "--key", "app.key", "--cert=app.crt"]);
    succeeds(&server, &[("MINIO_KES_API_KEY", ""), ("KES_API_KEY", &key)], &short);
    let listed = run(&server, &other, &["ls", "-k", "-a", &key, "-s", &server.address.to_string(), "-p"]);
    assert_eq!((listed.code, listed.out.as_str()), (0, "Policy\napp\n"), "{listed:?}");
}

#[test]
fn the_environment_of_the_object_server_is_enough() {
    let server = Server::start("");
    let endpoint = format!("https://{}", server.address);
    let files = [
        ("MINIO_KMS_KES_ENDPOINT", endpoint.as_str()),
        ("MINIO_KMS_KES_KEY_FILE", "app.key"),
        ("MINIO_KMS_KES_CERT_FILE", "app.crt"),
        ("MINIO_KMS_KES_CAPATH", "server.crt"),
        ("MINIO_KMS_KES_KEY_NAME", "minio-default-key"),
    ];
    let ran = piped(server.dir.path(), &files, &["status", "-s"], "");
    assert_eq!((ran.code, ran.out), (0, format!("● {}\n", server.address)), "{}", ran.err);
    // The roots may be a folder with other files in it; an API key beats the files.
    std::fs::create_dir(server.dir.join("roots")).unwrap();
    std::fs::copy(server.dir.join("server.crt"), server.dir.join("roots/public.crt")).unwrap();
    server.dir.write("roots/README", "not a certificate");
    let key = api_key(&server);
    let mut env = files;
    env[3].1 = "roots";
    env[1].1 = "none.key";
    env[4] = ("MINIO_KMS_KES_API_KEY", &key);
    let ran = piped(server.dir.path(), &env, &["ls", "--json"], "");
    assert_eq!((ran.code, ran.out.as_str()), (0, "[]\n"), "{}", ran.err);
}

#[test]
fn an_encrypted_private_key_is_opened_by_file_terminal_or_variable() {
    let server = Server::start("");
    let dir = &server.dir;
    dir.write("password", "correct horse\n");
    // The same key under a password: openssl is not needed, the pair is made anew and its identity listed by a reload.
    let identity = dir.identity("locked", &["--password-file", "password"]);
    let config = std::fs::read_to_string(dir.join("config.yml")).unwrap();
    dir.write(
        "config.yml",
        &config.replace(&format!("[{}]", server.app), &format!("[{}, {identity}]", server.app)),
    );
    let mut server = server;
    server.signal("HUP");
    server.wait_for(|server| server.output().contains("Reloading configuration after"), "the reload");

    let address = server.address.to_string();
    let env = [
        ("KES_SERVER", address.as_str()),
        ("SSL_CERT_FILE", "server.crt"),
        ("KES_CLIENT_KEY", "locked.key"),
        ("KES_CLIENT_CERT", "locked.crt"),
        ("MINIO_KMS_KES_KEY_PASSWORD", "correct horse"),
    ];
    let dir = &server.dir;
    let done = format!("● {address}\n");
    let ran = piped(dir.path(), &env[..4], &["status", "-s", "--password-file", "password"], "");
    assert_eq!((ran.code, &ran.out), (0, &done), "{}", ran.err);
    // Away from every terminal the variable counts.
    let detached = |env: Env<'_>| {
        let mut command = std::process::Command::new("setsid");
        command.current_dir(dir.path()).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        command.envs(env.iter().copied()).arg("-w").arg(support::program()).args(["status", "-s"]);
        Ran::from(command.output().unwrap())
    };
    let ran = detached(&env);
    assert_eq!((ran.code, &ran.out), (0, &done), "{}", ran.err);
    let ran = detached(&[&env[..4], &[("MINIO_KMS_KES_KEY_PASSWORD", "wrong")]].concat());
    assert_eq!((ran.code, ran.err.as_str()), (1, "Error: incorrect password\n"));
    let ran = detached(&env[..4]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("MINIO_KMS_KES_KEY_PASSWORD") && ran.err.contains("--password-file"), "{ran:?}");

    // On a terminal one is asked, and nothing of the answer is shown.
    for (keys, end, shown) in [
        ("correct horse\n", 0, done.as_str()),
        ("wrong\n", 1, "\x1b[31mError: \x1b[0mincorrect password\n"),
        ("corr\x03", 130, ""),
    ] {
        let mut terminal = Terminal::start(dir.path(), &env[..4], "\"$KES\" status -s --color never");
        terminal.wait_for("the question", |shown| shown.contains("Enter password for private key: "));
        terminal.keys(keys);
        let (code, all) = terminal.end();
        assert_eq!((code, all), (end, format!("Enter password for private key: \n{shown}")));
    }
}

#[test]
fn each_wrong_combination_of_credentials_is_told() {
    let dir = Dir::new();
    dir.identity("app", &[]);
    dir.identity("other", &[]);
    let key = "kes:v1:AODjYtvJbjwf6RvVR9pqp+2WJIXM2ZFKnNQMsckC+ZG6";
    let status = ["status"];
    for (env, pattern) in [
        (&[][..], "Error: no API key specified\nHint: Set MINIO_KES_API_KEY, *\n"),
        (
            &[("KES_API_KEY", key), ("KES_CLIENT_KEY", "app.key")],
            "Error: cannot use an API key (KES_API_KEY) and a private key file (KES_CLIENT_KEY) at once\n",
        ),
        (
            &[("MINIO_KES_API_KEY", key), ("KES_CLIENT_CERT", "app.crt")],
            "Error: cannot use an API key (MINIO_KES_API_KEY) and a certificate file (KES_CLIENT_CERT) at once\n",
        ),
        (
            &[("KES_CLIENT_KEY", "app.key")],
            "Error: no certificate file specified\nHint: * MINIO_KES_CERT_FILE.\n",
        ),
        (
            &[("KES_CLIENT_CERT", "app.crt")],
            "Error: no private key file specified\nHint: * MINIO_KES_KEY_FILE.\n",
        ),
        (
            &[("KES_CLIENT_KEY", "nope.key"), ("KES_CLIENT_CERT", "nope.crt")],
            "Error: reading certificate file: open nope.crt: no such file or directory\n",
        ),
        (
            &[("KES_CLIENT_KEY", "nope.key"), ("KES_CLIENT_CERT", "app.crt")],
            "Error: reading private key file: open nope.key: no such file or directory\n",
        ),
        (
            &[("KES_CLIENT_KEY", "other.key"), ("KES_CLIENT_CERT", "app.crt")],
            "Error: tls: private key does not match public key (app.crt, other.key)\n",
        ),
        (
            &[("KES_CLIENT_KEY", "app.crt"), ("KES_CLIENT_CERT", "app.crt")],
            "Error: https: no PEM-encoded private key found (app.crt)\n",
        ),
        (&[("KES_API_KEY", "!")], "Error: parsing API key: illegal base64 data at input byte 0\n"),
        (&[("KES_API_KEY", "AAAA")], "Error: parsing API key: kes: invalid API key: invalid length\n"),
        (
            &[("KES_API_KEY_FILE", "nope")],
            "Error: reading API key file: open nope: no such file or directory\n",
        ),
        (
            &[("MINIO_KMS_KES_KEY_FILE", "app.key")],
            "Error: no certificate file specified\nHint: * MINIO_KMS_KES_CERT_FILE.\n",
        ),
    ] {
        fails(&dir, env, &status, pattern);
    }
    for (args, pattern) in [
        (
            &["ls", "-a", key, "--key", "app.key"][..],
            "Error: cannot use an API key (--api-key) and a private key file (--key) at once\n",
        ),
        (&["ls", "--key", "app.key"], "Error: no certificate file specified\nHint: * --cert.\n"),
        (&["ls", "--timeout", "soon"], "Error: invalid argument \"soon\" for \"--timeout\" flag: *\n"),
        (
            &["ls", "-a", key, "--ca", "nope"],
            "Error: reading trusted certificates: open nope: no such file or directory\n",
        ),
    ] {
        fails(&dir, &[("KES_CLIENT_CERT", "app.crt")], args, pattern);
    }
}

#[test]
fn the_first_variable_that_is_set_counts() {
    let dir = Dir::new();
    dir.identity("app", &[]);
    let servers = [("MINIO_KES_SERVER", "a/1"), ("KES_SERVER", "a/2"), ("MINIO_KMS_KES_ENDPOINT", "a/3")];
    for (first, (_, value)) in servers.iter().enumerate() {
        fails(&dir, &servers[first..], &["status"], &format!("Error: invalid endpoint '{value}': *\n"));
    }
    fails(&dir, &servers, &["status", "--server", "a/0"], "Error: invalid endpoint 'a/0': *\n");
    let certificates =
        [("MINIO_KES_CERT_FILE", "1.crt"), ("KES_CLIENT_CERT", "2.crt"), ("MINIO_KES_CLIENT_CERT", "3.crt")];
    for (first, (_, value)) in certificates.iter().enumerate() {
        let env = [&certificates[first..], &[("KES_CLIENT_KEY", "app.key")]].concat();
        fails(&dir, &env, &["status"], &format!("Error: reading certificate file: open {value}: *\n"));
    }
    let keys =
        [("MINIO_KES_KEY_FILE", "1.key"), ("KES_CLIENT_KEY", "2.key"), ("MINIO_KES_CLIENT_KEY", "3.key")];
    for (first, (_, value)) in keys.iter().enumerate() {
        let env = [&keys[first..], &[("KES_CLIENT_CERT", "app.crt")]].concat();
        fails(&dir, &env, &["status"], &format!("Error: reading private key file: open {value}: *\n"));
    }
    // Which API key counts is seen by what is wrong with it.
    let wrong = [
        ("MINIO_KES_API_KEY", "!", "illegal base64 data at input byte 0"),
        ("KES_API_KEY", "A!", "illegal base64 data at input byte 1"),
        ("MINIO_KMS_KES_API_KEY", "AA!", "illegal base64 data at input byte 2"),
    ];
    for (first, (_, _, cause)) in wrong.iter().enumerate() {
        let env: Vec<_> = wrong[first..].iter().map(|(name, value, _)| (*name, *value)).collect();
        fails(&dir, &env, &["status"], &format!("Error: parsing API key: {cause}\n"));
    }
}

#[test]
fn of_several_servers_one_that_lives_is_asked() {
    let server = Server::start("");
    let key = api_key(&server);
    // A port that is taken and refuses nobody, but says nothing either; and one where nobody listens.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let (silent, alive) = (silent.local_addr().unwrap().to_string(), server.address.to_string());
    for (servers, args) in [
        (format!("127.0.0.1:1, {alive}"), vec!["status", "-s"]),
        (format!("{alive},127.0.0.1:1"), vec!["status", "-s"]),
        (format!("https://{alive}/ ,, no-such-host.invalid"), vec!["status", "-s"]),
        (format!("{silent},{alive}"), vec!["status", "-s", "--timeout", "8s"]),
    ] {
        let env = [("KES_API_KEY", key.as_str()), ("KES_SERVER", &servers)];
        succeeds(&server, &env, &args);
    }
    let two = format!("127.0.0.1:1,{alive}");
    let env = [("KES_API_KEY", key.as_str()), ("KES_SERVER", &two)];
    let ran = run(&server, &env, &["key", "create", "a", "b", "c"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    let ran = run(&server, &env, &["ls"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "Key\na\nb\nc\n"), "{ran:?}");
    let ran = run(&server, &env, &["metric", "--once"]);
    assert!(ran.code == 0 && ran.out.contains("\"kes_http_request_success\":4"), "{ran:?}");
    // What a server says is an answer; no other is asked.
    let ran = run(&server, &env, &["key", "create", "a"]);
    assert_eq!((ran.code, ran.err.as_str()), (1, "Error: failed to create key \"a\": key already exists\n"));
    // The flag may be repeated, too.
    succeeds(
        &server,
        &[("KES_API_KEY", &key)],
        &["status", "-s", "--server", "127.0.0.1:1", "--server", &alive],
    );
}

#[test]
fn a_server_is_trusted_by_ca_by_root_or_blindly() {
    let server = Server::start("");
    let key = api_key(&server);
    let address = server.address.to_string();
    let env = [("KES_API_KEY", key.as_str()), ("KES_SERVER", &address), ("SSL_CERT_DIR", "/nonexistent")];
    let bare = |args: &[&str]| piped(server.dir.path(), &env, args, "");
    for args in [&["status", "-s", "--ca", "server.crt"][..], &["status", "-s", "-k"], &["status", "-sk"]] {
        let ran = bare(args);
        assert_eq!((ran.code, ran.out), (0, format!("● {address}\n")), "{args:?}: {}", ran.err);
    }
    let stranger = "Error: Get \"https://*/v1/status\": tls: failed to verify certificate: x509: certificate signed by \
                    unknown authority\nHint: *--ca FILE*--insecure (-k).\n";
    fails(&server.dir, &env, &["status"], stranger);
    fails(&server.dir, &env, &["status", "--ca", "app.crt"], stranger);
    // `localhost` is a name of the certificate, the address of another interface is none.
    let by_name = format!("localhost:{}", server.address.port());
    let ran = bare(&["status", "-s", "--ca", "server.crt", "--server", &by_name]);
    assert_eq!((ran.code, ran.out), (0, format!("● {by_name}\n")), "{}", ran.err);
    // Something else listens there.
    let plain = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = plain.local_addr().unwrap();
    let answer = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut socket, _) = plain.accept().unwrap();
        let _ = socket.read(&mut [0; 4096]);
        let _ = socket.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        let _ = socket.read(&mut [0; 4096]);
    });
    fails(
        &server.dir,
        &env,
        &["status", "-k", "--server", &port.to_string()],
        "Error: Get *: tls: first record does not look like a TLS handshake\nHint: *HTTPS.\n",
    );
    answer.join().unwrap();
}
