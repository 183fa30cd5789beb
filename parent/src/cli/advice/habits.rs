//! What other tools have, and what rspawn has for it.

/// What stands in the place of an option.
#[derive(Debug, Clone, Copy)]
pub enum Instead {
    Nothing,
    /// These words.
    Words(&'static str),
    /// This option, with the value of the one given.
    Option(&'static str),
    /// docker's SOURCE:PATH:OPTIONS.
    Volume,
    /// bubblewrap's two words, which make one of rspawn's.
    Pair(&'static str),
    /// The value is the container's name, which stands by itself.
    Name,
    /// The command is the image's init.
    Init,
    /// Another thing to do, which the sentence says.
    Said,
}

use Instead::{Init, Name, Nothing, Option as Valued, Pair, Said, Volume, Words};

/// An option's spellings, in words; what stands instead; and a sentence that says so.
pub type Habit = (&'static str, Instead, &'static str);

const TERMINAL: &str =
    "leave it out: `run --host` and `run -D` have a terminal where you have one; of a bundle, config.json says so";

/// docker's, systemd-nspawn's and bubblewrap's options of `run` that rspawn does not have.
pub const RUN: [Habit; 26] = [
    (
        "--rm",
        Nothing,
        "leave it out: `run` in the foreground removes the container when it has ended (--keep keeps it)",
    ),
    ("-i --interactive", Nothing, "leave it out: standard input is the container's"),
    ("-t -it -ti --tty", Nothing, TERMINAL),
    ("-v --volume", Volume, "it is --bind=SOURCE:PATH, or --bind-ro=SOURCE:PATH"),
    ("--mount", Said, "it is --bind=SOURCE:PATH, --tmpfs=PATH or --overlay=LOWER:UPPER:PATH"),
    ("--ro-bind", Pair("--bind-ro="), "it is --bind-ro=SOURCE:PATH"),
    ("--name --machine -M", Name, "the name of the container stands by itself"),
    ("-e --env", Valued("--setenv="), "it is --setenv=NAME=VALUE, or -E NAME=VALUE"),
    ("-w --workdir", Valued("--chdir="), "it is --chdir=PATH"),
    ("--cap-add", Valued("--capability="), "it is --capability=NAME"),
    ("--cap-drop", Valued("--drop-capability="), "it is --drop-capability=NAME"),
    ("--privileged", Words("--capability=all"), "it is --capability=all, and each device and path by itself"),
    (
        "-m --memory",
        Said,
        "the limit is /linux/resources/memory/limit of config.json, or `rspawn update --memory` of a container that lives",
    ),
    (
        "--cpus",
        Said,
        "the limit is /linux/resources/cpu of config.json, or `rspawn update --cpu-quota` of a container that lives",
    ),
    ("-x --ephemeral", Words("--volatile=overlay"), "it is --volatile=overlay"),
    ("-q --quiet", Nothing, "leave it out: rspawn says nothing but what is wrong"),
    ("--boot", Init, "name the init as the command"),
    ("--unshare-net", Words("--private-network"), "it is --private-network"),
    (
        "--unshare-all",
        Words("--private-network"),
        "every namespace but the network's is new already, and that by --private-network",
    ),
    ("--die-with-parent", Nothing, "leave it out: what `run` started in the foreground ends with it"),
    (
        "--proc --dev",
        Said,
        "leave it out: `run --host` and `run -D` have /proc and /dev; of a bundle, config.json says so",
    ),
    ("--security-opt", Said, "it is --no-new-privileges=yes, or --system-call-filter=CALLS"),
    ("--entrypoint", Said, "the command stands behind `--`"),
    ("--link-journal", Said, "there is no journal of the host's in the container: --bind=/var/log/journal"),
    ("-p --publish --port", Said, "rspawn makes no networks: --network-namespace-path=FILE joins one that is there"),
    ("--restart", Said, "rspawn does not start a container again: a unit of systemd's with Restart= does"),
];

/// Options of `docker exec`.
pub const EXEC: [Habit; 4] = [
    ("-i --interactive", Nothing, "leave it out: standard input is the process's"),
    ("-it -ti", Words("-t"), "it is -t: standard input is the process's"),
    ("-w --workdir", Valued("--cwd="), "it is --cwd=DIR"),
    ("--privileged", Said, "it is --cap=NAME for each capability"),
];

/// Commands of docker's, machinectl's and others, and rspawn's for the same.
pub const COMMANDS: [(&str, &str); 10] = [
    ("stop", "kill"),
    ("terminate", "kill"),
    ("rm", "delete"),
    ("remove", "delete"),
    ("inspect", "state"),
    ("status", "state"),
    ("stats", "top"),
    ("unpause", "resume"),
    ("shell", "exec"),
    ("containers", "list"),
];

/// The habit that a word is, up to its `=`.
pub fn find(table: &'static [Habit], word: &str) -> Option<&'static Habit> {
    table.iter().find(|(names, _, _)| names.split(' ').any(|name| name == word))
}
