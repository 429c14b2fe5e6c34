//! Receivers with `each = true`, of a real daemon: servers that are slow, down, limit the rate or refuse, and programs
//! that die or hang.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::service::{HttpRequest, Service, answer};
use crate::common::{Daemon, failed, said, until};

/// A daemon that only observes, whose jails `sshd` and `ftp` both ban at the first failed login over ssh: two events for
/// each address.
fn start(receivers: &str) -> Daemon {
    Daemon::observing(&config(receivers))
}

fn config(receivers: &str) -> String {
    format!("maxretry = 1\njail.ftp = {{grammars = ['sshd'], offences = ['auth-failure']}}\n{receivers}")
}

#[track_caller]
fn reload(daemon: &Daemon, receivers: &str) {
    daemon.configure(&format!("mode = 'observe'\n{}", config(receivers)));
    assert!(daemon.tell("reload").starts_with("reloaded\n"));
}

/// A failed login from each of the addresses with these numbers.
fn attack(daemon: &Daemon, numbers: std::ops::Range<u32>) {
    daemon.send(numbers.map(|number| failed(4, &format!("198.51.{}.{}", number / 250, number % 250 + 1))));
}

fn receiver(daemon: &Daemon) -> Value {
    daemon.status()["receivers"][0].clone()
}

#[track_caller]
fn until_delivered(daemon: &Daemon, events: u64) {
    until(&format!("{events} events are delivered"), || {
        let status = receiver(daemon);
        if status["delivered"] == events && status["waiting"] == 0 { Ok(()) } else { Err(status) }
    });
}

/// That each of these addresses was told twice, once by each jail, in the order of the numbers, and nothing else.
#[track_caller]
fn told_in_order(events: &[Value], addresses: usize) {
    let mut of: BTreeMap<&str, Vec<(u64, &str)>> = BTreeMap::new();
    for event in events {
        let (number, jail) = (event["number"].as_u64().unwrap(), event["jail"].as_str().unwrap());
        assert_eq!((&event["event"], &event["receiver"]), (&json!("observed"), &json!("ops")), "{event}");
        of.entry(event["address"].as_str().unwrap()).or_default().push((number, jail));
    }
    assert_eq!((of.len(), events.len()), (addresses, 2 * addresses));
    for (address, told) in of {
        assert!(told[0].0 < told[1].0 && told[0].1 != told[1].1, "{address}: {told:?}");
    }
}

fn bodies(requests: &[HttpRequest]) -> Vec<Value> {
    requests.iter().map(HttpRequest::json).collect()
}

#[test]
fn ten_thousand_bans_reach_a_receiver_that_takes_a_tenth_of_a_second() {
    let (now, most) = (Arc::new(Mutex::new(BTreeMap::new())), Arc::new(AtomicUsize::new(0)));
    let service = Service::new({
        let most = Arc::clone(&most);
        move |request| {
            let address = request.json()["address"].to_string();
            let all = {
                let mut now = now.lock().unwrap();
                *now.entry(address.clone()).or_insert(0) += 1;
                // Two of one address at once make it more than there are addresses.
                now.values().sum::<usize>() * *now.values().max().unwrap()
            };
            most.fetch_max(all, Ordering::Relaxed);
            thread::sleep(Duration::from_millis(100));
            now.lock().unwrap().remove(&address);
            answer("204 No Content", "", "")
        }
    });
    let daemon = start(&format!("[notify.ops]\nwebhook = '{}'\neach = true\nconcurrency = 64", service.url));
    attack(&daemon, 0..5000);
    until("all are banned", || daemon.status()["bans"] == 10_000);
    // Bans do not wait for those that are told.
    assert!(receiver(&daemon)["waiting"].as_u64().unwrap() > 1000);
    until_delivered(&daemon, 10_000);
    assert_eq!(receiver(&daemon)["dropped"], 0);
    assert_eq!(daemon.metric("banstream_drops_total{reason=\"notify_queue_full\"}"), 0);
    told_in_order(&bodies(&service.requests()), 5000);
    assert!((2..=64).contains(&most.load(Ordering::Relaxed)), "{most:?}");
}

#[test]
fn a_receiver_that_was_down_gets_all_in_the_end() {
    let (address, url) = Service::nowhere();
    let daemon = start(&format!("[notify.ops]\nwebhook = '{url}'\neach = true"));
    attack(&daemon, 0..100);
    until("all are banned", || daemon.status()["bans"] == 200);
    let shown = until("it is known to be down", || receiver(&daemon)["error"].as_str().map(str::to_owned));
    assert!(shown.contains("error trying to connect") || shown.contains("Connect"), "{shown}");
    assert_eq!(receiver(&daemon)["waiting"], 200);
    let service = Service::at(TcpListener::bind(address).unwrap(), |_| answer("200 OK", "", "ok"));
    until_delivered(&daemon, 200);
    told_in_order(&bodies(&service.requests()), 100);
    assert!(daemon.metric("banstream_notifications_errors_total{receiver=\"ops\"}") > 0);
    assert_eq!(receiver(&daemon)["error"], Value::Null);
}

#[test]
fn a_server_that_limits_the_rate_is_left_alone_for_as_long_as_it_says() {
    let turned_away = Arc::new(Mutex::new(None));
    let service = Service::new({
        let turned_away = Arc::clone(&turned_away);
        move |request| {
            let mut away = turned_away.lock().unwrap();
            if away.is_none() {
                *away = Some((request.at, request.json()["number"].clone()));
                return answer("429 Too Many Requests", "retry-after: 2\r\n", "");
            }
            answer("200 OK", "", "")
        }
    });
    let daemon = start(&format!("[notify.ops]\nwebhook = '{}'\neach = true\nconcurrency = 1", service.url));
    attack(&daemon, 0..5);
    until_delivered(&daemon, 10);
    let mut requests = service.requests();
    let (at, number) = turned_away.lock().unwrap().clone().unwrap();
    assert_eq!(requests.remove(0).json()["number"], number);
    let next: Instant = requests[0].at;
    assert!(next - at >= Duration::from_secs(2), "{:?}", next - at);
    told_in_order(&bodies(&requests), 5);
}

#[test]
fn what_a_server_refuses_is_counted_and_the_rest_goes_on() {
    let bad = Arc::new(Mutex::new(String::new()));
    let service = Service::new({
        let bad = Arc::clone(&bad);
        move |request| match request.json()["address"].as_str() {
            _ if request.header("authorization") != Some("Bearer new") => answer("401 Unauthorized", "", ""),
            Some("198.51.0.2") => {
                bad.lock().unwrap().push('x');
                answer("422 Unprocessable Content", "", "{}")
            }
            _ => answer("200 OK", "", ""),
        }
    });
    let daemon = start("");
    fs::write(daemon.path("token"), "old\n").unwrap();
    let token = daemon.path("token").display().to_string();
    reload(
        &daemon,
        &format!("[notify.ops]\nwebhook = '{}'\neach = true\ntoken-file = '{token}'", service.url),
    );
    attack(&daemon, 0..10);
    let unauthorized = "the server answered 401 Unauthorized";
    until("the key is known to be wrong", || receiver(&daemon)["error"] == unauthorized);
    assert_eq!(receiver(&daemon)["waiting"], 20);
    fs::write(daemon.path("token"), "new\n").unwrap();
    until("all is told", || receiver(&daemon)["waiting"] == 0);
    let status = receiver(&daemon);
    assert_eq!(
        (&status["delivered"], &status["refused"], &status["dropped"]),
        (&json!(18), &json!(2), &json!(0))
    );
    assert_eq!(*bad.lock().unwrap(), "xx");
    let refused = "banstream_notifications_total{receiver=\"ops\",result=\"refused\"}";
    assert_eq!(daemon.metric(refused), 2);
    assert!(
        daemon.log().contains("a message to `ops` is refused: the server answered 422"),
        "{}",
        daemon.log()
    );
}

#[test]
fn a_program_that_dies_is_started_again_and_nothing_is_lost() {
    let daemon = start("");
    // It dies at every 7th event, with and without having noted it.
    let program = daemon.script(
        "program",
        "echo started >>starts; n=0\nwhile read -r line; do n=$((n+1))\n\
         [ $n = 7 ] && exit 3; echo \"$line\" >>told; [ $n = 4 ] && [ ! -e once ] && touch once && kill -9 $$\n\
         echo OK; done; echo ended >>ends",
    );
    reload(&daemon, &format!("[notify.ops]\ncommand = ['{program}']\neach = true\nevents = ['ban']"));
    attack(&daemon, 0..8);
    until_delivered(&daemon, 16);
    let told = daemon.file("told");
    let mut told: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    // What it had noted and not confirmed came twice, with the same number.
    assert_eq!(told.len(), 17);
    let mut numbers = BTreeSet::new();
    told.retain(|event| numbers.insert(event["number"].as_u64()));
    told_in_order(&told, 8);
    assert!(daemon.file("starts").lines().count() >= 4);
    daemon.stop();
    assert_eq!(daemon.file("ends"), "ended\n");
}

#[test]
fn a_program_that_hangs_is_killed_with_all_that_it_started() {
    let daemon = start("");
    let program = daemon.script(
        "program",
        "if [ -e child ]; then while read -r line; do echo \"$line\" >>told; echo OK; done; exit; fi\n\
         sleep 1000 & echo $! >child.new; mv child.new child; wait",
    );
    reload(&daemon, &format!("[notify.ops]\ncommand = ['{program}']\neach = true\ntimeout = '500ms'"));
    attack(&daemon, 0..2);
    until_delivered(&daemon, 4);
    let child = format!("/proc/{}/status", daemon.file("child").trim());
    until("its child is killed, too", || {
        let status = fs::read_to_string(&child).unwrap_or_default();
        status.is_empty() || status.contains("State:\tZ")
    });
    assert!(daemon.log().contains("it took longer than"), "{}", daemon.log());
}

#[test]
fn a_program_refuses_waits_fails_and_writes_what_nobody_asked() {
    let daemon = start("");
    let program = daemon.script(
        "program",
        "while read -r line; do echo \"$line\" >>seen; case $(grep -c . seen) in\n\
         1) echo 'REFUSED not this one';; 2) echo 'WAIT 1 not now';; 3) echo 'ERROR no idea';;\n\
         4) echo OK; echo debugging;; *) echo OK;; esac; done",
    );
    reload(&daemon, &format!("[notify.ops]\ncommand = ['{program}']\neach = true"));
    attack(&daemon, 0..3);
    until("all is told", || receiver(&daemon)["delivered"] == 5 && receiver(&daemon)["waiting"] == 0);
    assert_eq!(receiver(&daemon)["refused"], 1);
    let log = daemon.log();
    for said in [
        "refused: `PROGRAM`: not this one",
        "answered: WAIT 1 not now",
        "wrote what is not an answer: debugging",
    ] {
        assert!(log.contains(&said.replace("PROGRAM", &program)), "{said}: {log}");
    }
}

#[test]
fn a_reload_keeps_what_waits_and_the_end_says_what_was_not_delivered() {
    let (address, url) = Service::nowhere();
    let (_, other) = Service::nowhere();
    let each = |url: &str| format!("[notify.ops]\nwebhook = '{url}'\neach = true");
    let daemon = start(&each(&other));
    attack(&daemon, 0..50);
    until("all wait", || receiver(&daemon)["waiting"] == 100);
    // Another receiver comes, and this one stays; then it gets another address.
    reload(&daemon, &format!("[notify.zzz]\ncommand = ['/bin/true']\n{}", each(&other)));
    assert_eq!(receiver(&daemon)["waiting"], 100);
    reload(&daemon, &each(&url));
    let service = Service::at(TcpListener::bind(address).unwrap(), |_| answer("200 OK", "", ""));
    until_delivered(&daemon, 100);
    told_in_order(&bodies(&service.requests()), 50);
    reload(&daemon, &each(&other));
    attack(&daemon, 50..60);
    until("all wait", || receiver(&daemon)["waiting"] == 20);
    daemon.stop();
    let said = "shutting down: 20 events for `ops` not delivered";
    assert!(daemon.log().contains(said), "{}", daemon.log());
}

#[test]
fn a_test_is_told_besides_and_is_marked_as_one() {
    let service = Service::new(|_| answer("200 OK", "", ""));
    let daemon = start("");
    let program =
        daemon.script("program", "read -r line; echo \"$line\" >line; echo OK; cat >rest; echo >ended");
    let refuses = daemon.script("refuses", "read -r line; echo REFUSED no");
    reload(
        &daemon,
        &format!(
            "[notify.a]\nwebhook = '{}'\neach = true\n[notify.b]\ncommand = ['{program}']\neach = true\n\
             [notify.c]\ncommand = ['{refuses}']\neach = true",
            service.url
        ),
    );
    assert_eq!(daemon.tell("notify a"), "a accepted the message\n");
    assert_eq!(service.requests()[0].json()["event"], "test");
    assert_eq!(daemon.tell("notify b"), "b accepted the message\n");
    let event: Value = serde_json::from_str(&daemon.file("line")).unwrap();
    assert_eq!((&event["event"], &event["receiver"]), (&json!("test"), &json!("b")));
    daemon.file("ended");
    let refused = daemon.output(&["notify", "c"]);
    assert_eq!(said(&refused), format!("error: `{refuses}`: no\n"));
}
