#!/usr/bin/env bash
# The dashboard and the alert rules of packaging/monitoring: every metric that they name is one of a running server, every
# query is one that a Prometheus answers with data, and each alert comes with its cause and not without.
. "$(dirname "$0")/common.sh"
MONITORING=$ROOT/packaging/monitoring
cp "$MONITORING"/* .
identities
config 'probe: { address: 127.0.0.1:0 }'
start
PROBE=$(grep -Eo 'http://127\.0\.0\.1:[0-9]+' kes.out | head -1)
me=(-s -m 20 -o /dev/null --cacert server.crt --cert client.crt --key client.key)
# traffic: a success, an error and a failure: a key file that nobody has sealed does not open
traffic() {
	curl "${me[@]}" -X PUT "https://$ADDRESS/v1/key/generate/a-key"
	curl "${me[@]}" -X PUT "https://$ADDRESS/v1/key/generate/no-key"
	curl "${me[@]}" -X PUT "https://$ADDRESS/v1/key/generate/bad-key"
}
curl "${me[@]}" -X PUT "https://$ADDRESS/v1/key/create/a-key"
(umask 077 && echo junk >keys/bad-key)
traffic
curl -s -m 20 -o metrics.txt "$PROBE/v1/metrics"
sed -n 's/^\(kes_[a-z0-9_]*\)[{ ].*/\1/p' metrics.txt | sort -u >known

# queries FILE: the queries of the dashboard, one a line, with its variables put in
cat >queries.py <<'PY'
import json, re, sys
dashboard = json.load(open('grafana-dashboard.json'))
queries = [target['expr'] for panel in dashboard['panels'] for target in panel.get('targets', [])]
queries += [annotation['expr'] for annotation in dashboard['annotations']['list']]
titles = [panel['title'] for panel in dashboard['panels']]
assert len(set(titles)) == len(titles) and len({panel['id'] for panel in dashboard['panels']}) == len(titles)
boxes = [panel['gridPos'] for panel in dashboard['panels']]
for i, a in enumerate(boxes):
    for b in boxes[:i]:
        apart = a['x'] + a['w'] <= b['x'] or b['x'] + b['w'] <= a['x'] or a['y'] + a['h'] <= b['y'] or b['y'] + b['h'] <= a['y']
        assert apart, 'panels overlap'
for query in queries:
    query = query.replace('$__rate_interval', '20s').replace('$job', '.*').replace('$instance', '.*')
    assert '$' not in query, query
    print(query)
PY
python3 queries.py >queries && ok "the dashboard is JSON, and its panels have names and places of their own" || bad "the dashboard"
count=$(wc -l <queries)
[ "$count" -gt 30 ] && ok "it has $count queries" || bad "it has $count queries"
for file in grafana-dashboard.json prometheus-rules.yml; do
	grep -Eo '\bkes_[a-z0-9_]+' "$file" | sort -u >named
	unknown=$(comm -23 named known)
	[ -z "$unknown" ] && [ -s named ] && ok "$file names $(wc -l <named) metrics, and all exist" || bad "$file names metrics that exist" "$unknown"
done

if ! command -v promtool >/dev/null 2>&1; then
	echo "skipped: promtool is not installed"
	finish
fi
out=$(promtool check rules prometheus-rules.yml 2>&1) && ok "promtool accepts the rules" || bad "promtool accepts the rules" "$out"
cp "$ROOT/tests/monitoring-rules.yml" .
out=$(promtool test rules monitoring-rules.yml 2>&1) && ok "each alert comes with its cause, and none without" || bad "each alert comes with its cause, and none without" "$out"
grep -Eo 'alert: \w+' prometheus-rules.yml | cut -d' ' -f2 | sort >alerts
sed -n 's/.*alertname="\([A-Za-z]*\)".*/\1/p' monitoring-rules.yml | sort -u | cmp -s - alerts && ok "all $(wc -l <alerts) alerts are among the tests" || bad "all alerts are among the tests"

if ! command -v prometheus >/dev/null 2>&1; then
	echo "skipped: prometheus is not installed"
	finish
fi
cat >prometheus.yml <<YML
global: { scrape_interval: 1s, evaluation_interval: 1s }
rule_files: [ prometheus-rules.yml ]
scrape_configs:
- job_name: kes
  metrics_path: /v1/metrics
  static_configs: [ { targets: [ "${PROBE#http://}" ] } ]
YML
# Another program may take the port in between: then another port.
for i in 1 2 3 4 5; do
	port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
	prometheus --config.file prometheus.yml --storage.tsdb.path tsdb --web.listen-address "127.0.0.1:$port" >prometheus.log 2>&1 &
	pid=$!
	PIDS="$PIDS $pid"
	for j in $(seq 300); do
		curl -s -m 5 -f -o /dev/null "http://127.0.0.1:$port/-/ready" && break 2
		alive $pid || break
		sleep 0.2
	done
done
answer() { curl -s -m 20 --data-urlencode "query=$1" "http://127.0.0.1:$port/api/v1/query"; }
# A reload for the annotation, and traffic in more than one scrape for the rates.
hangup() { kill -HUP "$PID"; }
hangup
while read -r query; do
	for i in $(seq 200); do
		said=$(answer "$query")
		grep -q '"value":' <<<"$said" && break
		grep -q '"status":"error"' <<<"$said" && break
		traffic
		[ $((i % 10)) -eq 0 ] && hangup
		sleep 0.2
	done
	grep -q '"value":' <<<"$said" && ok "there is data for $query" || bad "there is data for $query" "$said"
done <queries
finish
