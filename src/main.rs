//! The `kes` program: everything is in the library.

fn main() -> std::process::ExitCode {
    kes::cli::run()
}
