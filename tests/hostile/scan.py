"""Reads the JSON of sslyze (sslyze 6) and prints a line for each finding: `ok TEXT` or `bad TEXT`."""

import json
import sys

scan = json.load(open(sys.argv[1]))["server_scan_results"][0]
results = scan["scan_result"]


def say(is_good, text):
    print("ok" if is_good else "bad", text)


def result(name):
    """The result of one scan, empty if it did not run."""
    entry = results[name]
    if entry["status"] != "COMPLETED":
        say(False, f"{name} did not run: {entry['error_reason']}")
        return {}
    return entry["result"]


for version in ["ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1"]:
    accepted = result(f"{version}_cipher_suites").get("accepted_cipher_suites")
    say(accepted == [], f"{version} is not spoken")
for version in ["tls_1_2", "tls_1_3"]:
    suites = [s["cipher_suite"] for s in result(f"{version}_cipher_suites").get("accepted_cipher_suites", [])]
    names = [s["name"] for s in suites]
    is_strong = all(("GCM" in n or "POLY1305" in n) and ("ECDHE" in n or version == "tls_1_3") for n in names)
    say(len(names) > 0 and is_strong, f"{version}: authenticated ciphers with forward secrecy only: {' '.join(names)}")
for name, field, wanted in [
    ("tls_compression", "supports_compression", False),
    ("tls_1_3_early_data", "supports_early_data", False),
    ("openssl_ccs_injection", "is_vulnerable_to_ccs_injection", False),
    ("heartbleed", "is_vulnerable_to_heartbleed", False),
    ("session_renegotiation", "is_vulnerable_to_client_renegotiation_dos", False),
    ("session_renegotiation", "supports_secure_renegotiation", True),
    ("tls_extended_master_secret", "supports_ems_extension", True),
]:
    say(result(name).get(field) is wanted, f"{field} is {wanted}")
robot = str(result("robot").get("robot_result"))
say("NOT_VULNERABLE" in robot, f"robot: {robot}")
