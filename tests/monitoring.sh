#!/usr/bin/env bash
# The metrics, as Prometheus's own tools see them: promtool's check, and a Prometheus that scrapes with a client
# certificate and over the listener for probes. Skips what is not installed, and says so.
. "$(dirname "$0")/common.sh"
identities
config 'probe: { address: 127.0.0.1:0 }'
start
PROBE=$(grep -Eo 'http://127\.0\.0\.1:[0-9]+' kes.out | head -1)
me=(-s -m 60 --cacert server.crt --cert client.crt --key client.key)
for i in 1 2 3; do curl "${me[@]}" -o /dev/null -X PUT "https://$ADDRESS/v1/key/create/k$i"; done
curl "${me[@]}" -o /dev/null -X PUT "https://$ADDRESS/v1/key/generate/k1"
curl "${me[@]}" -o /dev/null -X PUT "https://$ADDRESS/v1/key/generate/none"
curl "${me[@]}" -o metrics.txt -D head.txt "https://$ADDRESS/v1/metrics"
grep -qi '^content-type: text/plain; version=0.0.4; charset=utf-8; escaping=underscores' head.txt && ok "the content type is the text format's" || bad "the content type" "$(cat head.txt)"

# Every name of the protocol is there, with its type.
while read -r kind name; do
	grep -q "^# TYPE $name $kind\$" metrics.txt && ok "$name is a $kind" || bad "$name is a $kind" "$(grep "$name" metrics.txt)"
done <<NAMES
gauge kes_http_request_active
counter kes_http_request_error
counter kes_http_request_success
histogram kes_http_response_time
counter kes_log_audit_events
counter kes_log_error_events
gauge kes_system_mem_heap_objects
gauge kes_system_mem_heap_used
gauge kes_system_mem_stack_used
gauge kes_system_num_cpu
gauge kes_system_num_cpu_used
gauge kes_system_num_threads
gauge kes_system_up_time
counter kes_cache_hits_total
counter kes_cache_misses_total
histogram kes_keystore_latency_seconds
counter kes_tls_handshakes_full_total
counter kes_tls_handshakes_resumed_total
counter kes_http2_streams_total
gauge kes_tls_certificate_expiry_timestamp_seconds
gauge kes_connections_open
gauge kes_jobs_queued
gauge kes_keystore_sealed
NAMES
missing=$(sed -n 's/^# TYPE \([a-z0-9_]*\) .*/\1/p' metrics.txt | while read -r name; do
	grep -Eq "^\.It Cm (.* , )?$name( ,|\$)" "$ROOT/man/kes-api.7" || echo "$name"
done)
[ -z "$missing" ] && ok "the manual names every metric" || bad "the manual names every metric" "$missing"
value() { sed -n "s/^$1 //p" metrics.txt; }
[ "$(value kes_keystore_sealed)" = 1 ] && ok "the store is sealed" || bad "the store is sealed"
[ "$(value 'kes_http_request_success{code="200"}')" = 4 ] && ok "requests are counted" || bad "requests are counted" "$(grep request metrics.txt)"
grep -q request_failure metrics.txt && bad "no failure family before the first failure" || ok "no failure family before the first failure"

if command -v promtool >/dev/null 2>&1; then
	said=$(promtool check metrics <metrics.txt 2>&1)
	# Its style rules were not known when the protocol got its names; what we have added follows them.
	rest=$(grep -Ev '^kes_(http_request_(success|error|failure)|log_(audit|error)_events) counter metrics should have "_total" suffix$' <<<"$said")
	[ -z "$rest" ] && ok "promtool accepts the metrics" || bad "promtool accepts the metrics" "$rest"
else
	echo "skipped: promtool is not installed"
fi

if command -v prometheus >/dev/null 2>&1; then
	port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
	cat >prometheus.yml <<YML
global: { scrape_interval: 1s }
scrape_configs:
- job_name: kes
  scheme: https
  metrics_path: /v1/metrics
  tls_config: { ca_file: server.crt, cert_file: client.crt, key_file: client.key }
  static_configs: [ { targets: [ "$ADDRESS" ] } ]
- job_name: probe
  metrics_path: /v1/metrics
  static_configs: [ { targets: [ "${PROBE#http://}" ] } ]
YML
	prometheus --config.file prometheus.yml --storage.tsdb.path tsdb --web.listen-address "127.0.0.1:$port" >prometheus.log 2>&1 &
	PIDS="$PIDS $!"
	query() { curl -s -m 30 --data-urlencode "query=$1" "http://127.0.0.1:$port/api/v1/query"; }
	for i in $(seq 600); do query 'sum(up)' | grep -q '"2"\]' && break; sleep 0.2; done
	for job in kes probe; do
		query "up{job=\"$job\"}" | grep -q '"1"\]' && ok "a Prometheus scrapes: $job" || bad "a Prometheus scrapes: $job" "$(tail -5 prometheus.log; query up)"
	done
	query 'kes_http_request_success{job="kes",code="200"}' | grep -q '"4"\]' && ok "and sees the counters" || bad "and sees the counters" "$(query kes_http_request_success)"
	query 'histogram_quantile(0.99, kes_http_response_time_bucket{job="kes"})' | grep -q '"success"' && ok "and the histogram" || bad "and the histogram"
else
	echo "skipped: prometheus is not installed"
fi
finish
