//! What the help of each command ends with.

pub(super) const AFTER: &str = "\
Examples:
  banstream check                        Is the configuration valid?
  banstream run --dry-run                Decide and log, but ban nobody
  banstream status                       Does it work?
  banstream bans                         Who is banned, why, and until when?
  banstream top                          Watch it live
  banstream web                          Watch it in a browser
  banstream why 192.0.2.1                Why is it banned, or why not?
  banstream ban 192.0.2.1 --for 1d --reason 'port scan'
  banstream unban 192.0.2.1
  banstream allow 192.0.2.1 --for 8h     Exempt it from bans for 8 hours
  banstream setup                        Do the lines of the services here arrive?
  banstream import fail2ban              What would become of fail2ban's jails?
  banstream import list drop.txt         What would be banned by a list?
  banstream doctor                       Are bans really enforced?
  banstream report --since 7d            What happened?
  banstream log -f                       What is the daemon doing?
  banstream notify ops                   Does `[notify.ops]` work?
  journalctl -u ssh -o short-iso | banstream explain
  banstream replay /var/log/auth.log     Who would have been banned?
  banstream grammar new --program myapp < failed-logins

Files:
  /etc/banstream/banstream.toml          The configuration; optional
  /etc/banstream/banstream.d/*.toml      Read after it, in the order of their names
  /etc/banstream/grammars/*.grammar      Grammars of your own
  /run/banstream/control.sock            The daemon's control socket

Environment:
  BANSTREAM_SOCKET                       The control socket, unless --socket is given
  NO_COLOR                               If set, no colours; there are none without a terminal

Exit status:
  0  done
  1  the check found faults, or the daemon refused
  2  could not run: wrong usage, no permission, no daemon";

pub(super) const RUN_EXAMPLES: &str = "\
Examples:
  banstream run --dry-run                Decide and log, but ban nobody
  banstream run --config ./banstream.toml

Signals:
  SIGHUP           reloads the configuration, like `banstream reload`
  SIGTERM, SIGINT  stop it; bans stay in force

Exit status:
  0  stopped on request (SIGTERM, SIGINT)
  2  could not start: wrong configuration, refusal of the kernel, or another daemon";

pub(super) const DISABLE_EXAMPLES: &str = "\
Examples:
  systemctl stop banstream
  systemctl clean --what=fdstore banstream
                                         systemd 254 and later: drop the socket
  banstream disable

Exit status:
  0  nothing enforces bans any more
  2  a daemon runs, the kernel refuses, no permission, or the configuration is wrong";

pub(super) const OMPROG_EXAMPLES: &str = "\
Examples:
  binary=\"/usr/bin/banstream omprog --confirm\" confirmMessages=\"on\"
                                         In an action of type omprog
  banstream omprog <lines.json           Sends lines in rsyslog's form to the daemon";

pub(super) const CHECK_EXAMPLES: &str = "\
Examples:
  banstream check                        The installed configuration and grammars
  banstream check ./sshd.grammar ./banstream.toml

Exit status:
  0  all is valid
  1  faults were found and printed
  2  a file cannot be read";

pub(super) const CONFIG_SHOW_EXAMPLES: &str = "\
Examples:
  banstream config show
  banstream config show | grep -v '# .*default$'
                                         Only what files set";

pub(super) const STATUS_EXAMPLES: &str = "\
Examples:
  banstream status
  banstream status --json | jq .enforcement";

pub(super) const BANS_EXAMPLES: &str = "\
Examples:
  banstream bans
  banstream bans 192.0.2.1               Which bans are on this address?
  banstream bans --in 192.0.2.0/24 --sort since --limit 20
  banstream bans --jail sshd --since 1h
  banstream bans --export > bans.list    Save them
  banstream bans --json | jq -r '.[].address'";

pub(super) const TOP_EXAMPLES: &str = "\
Examples:
  banstream top
  banstream top --interval 10s           Over a slow connection

Keys:
  up, down, j, k   choose a ban; PgUp, PgDn by ten, g back to the latest
  w, Enter         show why it is banned; Esc closes that
  u                lift it, after y
  /                filter by address or jail; Enter keeps the filter, Esc ends it
  p                pause
  ?                these keys
  q                quit";

pub(super) const WEB_EXAMPLES: &str = "\
Examples:
  banstream web
  banstream web --allow-changes --listen 127.0.0.1:8080
  ssh -t -L 9847:127.0.0.1:9847 HOST banstream web
                                         Look at HOST from here

Exit status:
  0  ended by SIGINT or SIGTERM
  2  could not start: the address is taken, or root started it while no daemon runs";

pub(super) const UNBAN_EXAMPLES: &str = "\
Examples:
  banstream unban 192.0.2.1
  banstream unban 2001:db8::/64          As listed by `banstream bans`
  banstream unban 192.0.2.0/24 --inside
  banstream unban 192.0.2.1 --jail sshd   Leave the bans of other jails on it
  banstream unban --from bans.list
  banstream unban --jail list
  banstream unban --all";

pub(super) const SETUP_EXAMPLES: &str = "\
Examples:
  banstream setup                        What runs here, and what is missing?
  banstream setup --write                Write it
  banstream setup --undo                 Remove all that it has written

Files:
  /etc/rsyslog.d/zz-banstream-setup.conf
                                         Lets rsyslog read log files
  /etc/banstream/banstream.d/50-setup.toml
                                         Turns on jails

Exit status:
  0  nothing is missing
  1  something is
  2  could not run: the configuration is wrong, no permission, or a program refuses what was to be written";

pub(super) const IMPORT_EXAMPLES: &str = "\
Examples:
  banstream import fail2ban              What would become of it?
  banstream import fail2ban --compare    And do both find the same in my logs?
  banstream import fail2ban --shadow     Write it, but only observe while fail2ban goes on
  banstream import fail2ban --write      Write it, and take over the bans
  systemctl enable --now banstream
  banstream import fail2ban --diff       Who was banned by only one of the two?
  banstream import fail2ban --switch     Stop fail2ban
  banstream import fail2ban --undo       Go back
  banstream import fail2ban --markdown /mnt/etc/fail2ban >ticket.md

Files:
  /etc/banstream/banstream.d/fail2ban.toml
                                         Jails and settings
  /etc/banstream/grammars/f2b-*.grammar  Grammars made of filters
  /etc/rsyslog.d/zz-banstream-fail2ban.conf
                                         Lets rsyslog read log files

Exit status:
  0  done, and nothing is left for you to do
  1  something is: see `needs you`
  2  could not run: a configuration is wrong, no permission, or fail2ban cannot be stopped yet";

pub(super) const IMPORT_LIST_EXAMPLES: &str = "\
Examples:
  banstream import list drop.txt         What would be banned?
  banstream import list --write --for 1d --reason 'Spamhaus DROP' drop.txt
  cscli decisions list -o raw | banstream import list --write -
  banstream unban --jail list            Lift all bans of lists

Lists:
  192.0.2.1                              An address or prefix a line
  192.0.2.0/24 2d        # port scan     When its ban ends, and a comment, which becomes its reason
  ip,reason,expiration,action            CSV, if the first line is a heading with `ip`, `address` or `value`

Exit status:
  0  all lines are sound, or `--skip-wrong` was given
  1  some are wrong, and nothing was done
  2  could not run: the configuration is wrong, the list cannot be read, no permission, or the daemon refuses";

pub(super) const EXPLAIN_EXAMPLES: &str = "\
Examples:
  journalctl -u ssh -o short-iso | banstream explain
  echo 'Invalid user x from 192.0.2.1 port 22' | banstream explain --program sshd --json";

pub(super) const GRAMMAR_NEW_EXAMPLES: &str = "\
Examples:
  grep 'login failed' /var/log/myapp.log | banstream grammar new --program myapp -o myapp.grammar
  journalctl -o short-iso -t myapp -g 'login failed' | banstream grammar new -o myapp.grammar
  grep SASL /var/log/mail.log | banstream grammar new --program 'postfix/*' -o sasl.grammar";

pub(super) const REPLAY_EXAMPLES: &str = "\
Examples:
  banstream replay /var/log/auth.log*    Rotated and compressed ones too, the oldest first
  banstream replay --journal --since 30d
  banstream replay --against ./stricter.toml /var/log/auth.log*
  banstream replay --program nginx --json /var/log/nginx/access.log

Exit status:
  0  all logs were read
  2  a log could not be read to its end; the result covers what was read";

pub(super) const REPORT_EXAMPLES: &str = "\
Examples:
  banstream report                       The last seven days
  banstream report --since 24h --json | jq .totals
  banstream report --since 2026-11-01 --until 2026-12-01 --html > november.html";

pub(super) const LOG_EXAMPLES: &str = "\
Examples:
  banstream log                          The last 50 lines
  banstream log -f                       Follow it
  banstream log 192.0.2.1 --since 7d     What was about this address?
  banstream log --jail sshd -n 20
  banstream log --since 1h --json

Exit status: as journalctl's; 2 if there is no line to read";

pub(super) const BAN_EXAMPLES: &str = "\
Examples:
  banstream ban 192.0.2.1
  banstream ban 192.0.2.0/24 --for 1d --reason 'port scan'
  banstream ban 2001:db8::/64 --for '1h 30m'
  banstream ban 192.0.2.1 --reason typo
  banstream ban --from bans.list --for 7d";

pub(super) const ALLOW_EXAMPLES: &str = "\
Examples:
  banstream allow
  banstream allow 192.0.2.1 --for 8h --comment 'on call'
  banstream allow --from bans.list
  banstream allow --remove 192.0.2.1";

pub(super) const UNDO_EXAMPLES: &str = "\
Examples:
  banstream undo                         Put back what `unban --all` has just lifted
  banstream undo --list                  What can be taken back";

pub(super) const RELOAD_EXAMPLES: &str = "\
Examples:
  banstream reload
  banstream reload --confirm 60s         If it locks you out, wait: it is rolled back after 60 s
  banstream reload --keep                Confirm it

Exit status:
  0  the new configuration is in force
  1  it is wrong; the old one stays
  2  no daemon answers";

pub(super) const NOTIFY_EXAMPLES: &str = "\
Examples:
  banstream notify ops                   If the configuration has [notify.ops]

Exit status:
  0  the receiver accepted the message
  1  it did not, or there is no receiver with this name
  2  no daemon answers";

#[cfg(feature = "fleet")]
pub(super) const FLEET_INIT_EXAMPLES: &str = "\
Examples:
  banstream fleet init                   Makes `fleet-operator.seed` here

Exit status:
  0  the key and, where the server could be asked, the buckets are there
  2  the key, the configuration or the server is wrong";

#[cfg(feature = "fleet")]
pub(super) const FLEET_LEAVE_EXAMPLES: &str = "\
Examples:
  banstream fleet leave                  As root, on the host that leaves

Exit status:
  0  the host has left
  2  it has not, or not all of its bans are lifted; run it again";

#[cfg(feature = "fleet")]
pub(super) const FLEET_ADD_EXAMPLES: &str = "\
Examples:
  banstream fleet add web1               Makes the key of web1, and admits it
  banstream fleet add web2 --key UABC... Admits it with a key that it has made itself

Exit status:
  0  the host is a member
  2  it is not";
