//! Examples for `rspawn help CMD` and the man pages.

pub const RUN: &str = "\
Examples:
  rspawn run --bundle demo                       the bundle as it is; Ctrl-C goes to its payload
  rspawn run --bundle demo -- ls -l /            another command in it
  rspawn run --host -- id                        no bundle: this machine's root, read-only
  rspawn run -D /srv/debian --user=www-data      a directory with a root filesystem
  rspawn run --oci-bundle=demo                   a bundle as systemd-nspawn starts it: here with a login shell
  rspawn run -b demo --bind=/srv/data:/data --bind-ro=-/etc/hosts --tmpfs=/scratch:size=64M
  rspawn run -b demo --inaccessible=/etc/shadow --read-only --volatile=state
  rspawn run -b demo --system-call-filter='~@mount @swap' --drop-capability=CAP_NET_RAW
  rspawn run -b demo --settings=demo.nspawn --audit=/var/log/demo.jsonl

What an option changes can be seen before: rspawn plan --diff takes the same options.
The exit status is the payload's, 128+N if signal N ended it, and 1 if rspawn failed.";

pub const PLAN: &str = "\
Examples:
  rspawn plan demo                               what would be done, by whom, from which line
  rspawn plan --format=json demo                 the same for a program
  rspawn plan --oci-bundle=demo                  and what systemd-nspawn's nspawn_defaults add: `rule: nspawn`
  rspawn plan --diff demo other                  what `other` may do that `demo` may not
  rspawn plan --diff demo --bind=/run/docker.sock --capability=CAP_SYS_ADMIN
  rspawn plan --format=bin demo >P; /usr/libexec/rspawn/rspawn-setup --check P

Colours are for terminals, and NO_COLOR turns them off. The exit status is 1 if there is no plan.";

pub const CHECK: &str = "\
Examples:
  rspawn check demo                              everything that is wrong, most important first
  rspawn check --format=json demo                the same for a program
  rspawn check demo --settings=demo.nspawn       and which of its keys have no effect, and why
  rspawn check --oci-bundle=demo -- sh           for `run --oci-bundle`
  rspawn check -D /srv/debian -- ls /etc         for `run -D`
  rspawn check demo --policy=/etc/rspawn/policy.conf

The exit status is 0 if the bundle can be started here, else 1.";

pub const SPEC: &str = "\
Examples:
  mkdir -p demo/rootfs && rspawn spec --bundle demo
  rspawn spec --no-terminal                      for a payload in a pipe";

pub const UPDATE: &str = "\
Examples:
  rspawn update --memory=512M --memory-swap=1G web
  rspawn update --cpu-quota=50000 --pids-limit=100 web
  echo '{\"cpu\": {\"cpus\": \"0-1\"}}' | rspawn update --resources=- web

Values are set one after another. If one is refused, the error says which were not set.";

pub const TOP: &str = "\
Examples:
  rspawn top                                     every container, the busiest first; q or Ctrl-C ends
  rspawn top --interval=500ms web db             these two, until both are deleted
  rspawn top --once                              one table

CPU% is of one CPU. MEM and PIDS are what is used, and the limit if there is one. CPU-P, MEM-P and IO-P are pressure:
the per cent of the last ten seconds in which a process of the container had to wait for it. A dash: nobody counts it.";

pub const POLICY: &str = "\
Examples:
  rspawn policy show                             /etc/rspawn/policy.conf, every default spelt out
  rspawn policy show policy.conf
  rspawn policy show --format=bin policy.conf >F; /usr/libexec/rspawn/rspawn-setup --check P F";

pub const GENERATE: &str = "\
Examples:
  rspawn generate completions bash >/usr/share/bash-completion/completions/rspawn
  rspawn generate completions zsh >/usr/share/zsh/vendor-completions/_rspawn
  rspawn generate completions fish >/usr/share/fish/vendor_completions.d/rspawn.fish
  rspawn generate man /usr/share/man/man1";
