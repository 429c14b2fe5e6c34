//! The other ways to log in: by credentials of NATS, and by a certificate. A host signs with its seed in any case.

use std::fs;
use std::process::Command;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use serde_json::{Value, json};

use super::lab::{Host, Lab, apart};
use super::rogue::Rogue;
use crate::common::{BANSTREAM, said, sh, until};

/// A ban of the first is in force on the second.
#[track_caller]
fn they_share(lab: &Lab) {
    lab.hosts.iter().for_each(Host::start);
    lab.hosts.iter().for_each(Host::wait_until_connected);
    lab.hosts[0].daemon.tell("ban 198.51.100.1");
    lab.all_block(&["198.51.100.1"]);
}

/// Changes the configuration of a host.
fn configure(host: &Host, change: impl FnOnce(String) -> String) {
    let path = host.daemon.path("c.toml");
    let config = fs::read_to_string(&path).unwrap();
    fs::write(path, change(config)).unwrap();
}

/// What the server lets a user do: its lists of subjects to publish and to subscribe to.
fn permissions(user: &str) -> [Value; 2] {
    ["publish: ", "subscribe: "].map(|list| {
        let (_, list) = user.split_once(list).unwrap();
        serde_json::from_str(&list[..=list.find(']').unwrap()]).unwrap()
    })
}

#[test]
fn hosts_log_in_by_certificate() {
    apart(|| {
        let lab = Lab::new(&["web1", "web2"], "");
        let folder = lab.path("").display().to_string();
        let make = |name: &str, more: &str| {
            sh(&format!(
                "cd {folder} && printf 'subjectAltName={more}' >san
                 openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -out csr -subj /CN={name} 2>&1
                 openssl x509 -req -in csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 9 -extfile san -out {name}.pem 2>&1"
            ));
        };
        sh(&format!(
            "cd {folder} && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem \
             -subj /CN=fleet -days 9 2>&1"
        ));
        make("nats1", "IP:10.9.0.1");
        make("web1", "DNS:web1");
        make("web2", "DNS:web2");
        make("eve", "DNS:eve");
        let users: Vec<String> = (0..)
            .zip(lab.users())
            .map(|(nth, user)| match nth {
                0 => user,
                nth => {
                    let [publish, subscribe] = permissions(&user);
                    let permissions = format!("publish: {publish}, subscribe: {subscribe}");
                    format!("{{ user: \"web{nth}\", permissions: {{ {permissions} }} }}")
                }
            })
            .collect();
        lab.kill_server();
        lab.write_server_with(&format!(
            "tls {{ cert_file: {folder}/nats1.pem, key_file: {folder}/nats1.key, ca_file: {folder}/ca.pem, verify_and_map: true }}\n\
             accounts {{ banstream {{ jetstream: enabled, users: [\n{}\n] }} }}\n",
            users.join("\n")
        ));
        lab.start_server();
        let with = |host: &Host, name: &str| {
            configure(host, |config| {
                let config = config.replace("nats://", "tls://");
                let own = config
                    .lines()
                    .filter(|line| !line.starts_with("fleet.tls-"))
                    .collect::<Vec<_>>()
                    .join("\n");
                format!(
                    "{own}\nfleet.tls-ca = '{folder}/ca.pem'\nfleet.tls-certificate = '{folder}/{name}.pem'\n\
                     fleet.tls-key = '{folder}/{name}.key'\n"
                )
            });
        };
        lab.hosts.iter().for_each(|host| with(host, host.name));
        they_share(&lab);
        // The operator logs in with the NKEY, through the same TLS.
        assert_eq!(lab.fleet(&lab.hosts[0], &["hosts"]).lines().last(), Some("2 hosts"));
        // A certificate that the server does not know.
        let web2 = &lab.hosts[1];
        web2.daemon.stop();
        with(web2, "eve");
        web2.start();
        until("it is refused", || {
            let error = web2.fleet().error.unwrap_or_default();
            if error.contains("authorization violation") { Ok(()) } else { Err(error) }
        });
    });
}

#[test]
fn hosts_and_operators_log_in_by_credentials() {
    apart(|| {
        let lab = Lab::new(&["web1", "web2"], "");
        let (operator, account, system) =
            (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_account());
        let unlimited = json!({
            "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1,
            "leaf": -1, "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1
        });
        let of_account = |pair: &KeyPair, limits: &Value| {
            signed(&operator, &pair.public_key(), &json!({"type": "account", "version": 2, "limits": limits}))
        };
        let credentials = |name: &str, pair: &KeyPair, permissions: Value| {
            let mut claims = json!({"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1});
            claims.as_object_mut().unwrap().extend(permissions.as_object().unwrap().clone());
            let token = signed(&account, &pair.public_key(), &claims);
            let path = lab.path(&format!("{name}.creds"));
            fs::write(
                &path,
                format!(
                    "-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n\
                     -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
                    pair.seed().unwrap()
                ),
            )
            .unwrap();
            path.display().to_string()
        };
        for (host, user) in lab.hosts.iter().zip(&lab.users()[1..]) {
            let [publish, subscribe] = permissions(user);
            let file = credentials(
                host.name,
                &Rogue::of(host).pair,
                json!({"pub": {"allow": publish}, "sub": {"allow": subscribe}}),
            );
            configure(host, |config| format!("{config}fleet.credentials = '{file}'\n"));
        }
        let own = credentials("operator", &Rogue::operator(&lab).pair, json!({}));
        lab.kill_server();
        let none = json!({"subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "conn": -1, "leaf": -1});
        lab.write_server_with(&format!(
            "operator: {}\nsystem_account: {}\nresolver: MEMORY\nresolver_preload: {{ {}: {}, {}: {} }}\n",
            signed(&operator, &operator.public_key(), &json!({"type": "operator", "version": 2})),
            system.public_key(),
            account.public_key(),
            of_account(&account, &unlimited),
            system.public_key(),
            of_account(&system, &none),
        ));
        lab.start_server();
        // An NKEY alone does not do here.
        let mut init = Command::new(BANSTREAM);
        init.args(["fleet", "init", "--config", "c.toml", "--operator-key"]).arg(lab.path("operator.seed"));
        let refused = init.current_dir(&lab.hosts[0].daemon).output().unwrap();
        assert!(
            !refused.status.success() && said(&refused).contains("authorization violation"),
            "{}",
            said(&refused)
        );
        let words = ["--operator-credentials", &own];
        lab.fleet(&lab.hosts[0], &[&["init"][..], &words].concat());
        lab.hosts.iter().for_each(|host| drop(lab.add(host, &words)));
        they_share(&lab);
        assert_eq!(
            lab.fleet(&lab.hosts[0], &[&["hosts"][..], &words].concat()).lines().last(),
            Some("2 hosts")
        );
    });
}

/// A token of NATS: claims about a key, signed by another.
fn signed(by: &KeyPair, subject: &str, claims: &Value) -> String {
    let encoded = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let head = json!({"typ": "JWT", "alg": "ed25519-nkey"});
    let body = json!({
        "jti": subject, "iat": jiff::Timestamp::now().as_second(), "iss": by.public_key(), "sub": subject,
        "name": subject, "nats": claims
    });
    let text = format!("{}.{}", encoded(head), encoded(body));
    let signature = by.sign(text.as_bytes()).unwrap();
    format!("{text}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}
