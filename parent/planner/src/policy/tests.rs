use super::*;

#[test]
fn a_policy_reads_as_it_is_written() {
    let policy = parse(
        "# comment\nmode = enforce\nbind.allow = /srv/** /data:ro\ncaps.max = CHOWN CAP_KILL\n\
         devices.allow = c 1:3 c 136:*\nnamespaces.own = pid mount\nseccomp = required\n",
    )
    .unwrap()
    .policy;
    assert_eq!((policy.mode, policy.capabilities, policy.seccomp), (Enforcement::Enforce, 0b10_0001, true));
    let allow = policy.bind_allow;
    assert!(allow[0].covers("/srv/a/b") && !allow[0].covers("/srvx") && allow[1].read_only);
    assert_eq!(policy.devices.unwrap()[1].minor, None);
}

#[test]
fn what_cannot_be_meant_is_an_error_with_its_line() {
    let error = parse("bind.dney = /etc").unwrap_err();
    assert!(error.contains("line 1") && error.contains("bind.deny"), "{error}");
    for (bad, word) in [
        ("mode = perhaps", "enforce"),
        ("mode = enforce\nmode = off", "line 2: mode is \"off\" here and \"enforce\" in line 1"),
        ("seccomp = required\nseccomp = allowed", "line 2"),
        ("caps.max = KILL\n\ncaps.max = CHOWN", "line 3"),
        ("userns.min-host-id = 1 2", "one id"),
        ("caps.max = CAP_NOPE", "CAP_NOPE"),
        ("caps.max =", "no value"),
        ("bind.allow = relative", "absolute"),
        ("bind.allow = /x:rw", "`:rw`"),
        ("bind.allow = /srv/*", "can match nothing"),
        ("bind.allow = /srv/**/x", "can match nothing"),
        ("bind.allow = /srv/../etc", "can match nothing"),
        ("bind.allow = any /srv", "stand alone"),
        ("bind.deny = /x:ro", "bind.allow"),
        ("devices.allow = c", "not a device"),
        ("devices.allow = c 5000:1", "not a device"),
        ("sysctl.allow = vm.swappiness", "no namespace"),
        ("sysctl.allow = net*", "can match nothing"),
        ("filesystems.allow = ext*", "can match nothing"),
        ("net-devices.allow = eth*", "can match nothing"),
        ("seccomp.must-deny = bfp", "bpf"),
        ("namespaces.own = network pidd", "pidd"),
        ("x", "`=`"),
    ] {
        let error = parse(bad).unwrap_err();
        assert!(error.contains("line") && error.contains(word), "{bad}: {error}");
    }
    // The same twice says nothing new, and lists add up.
    let parsed = parse("mode = enforce\nmode = enforce\nbind.allow = /a\nbind.allow = /b\n").unwrap();
    assert_eq!(parsed.policy.bind_allow.len(), 2);
}
