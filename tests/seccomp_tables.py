"""Generates the number tables. Sources: libseccomp's resolver (names in its
read-only data), Debian 12's asm/unistd headers, and a list of newer calls."""
import ctypes,re,subprocess,json
L=ctypes.CDLL('libseccomp.so.2')
L.seccomp_syscall_resolve_name_arch.argtypes=[ctypes.c_uint32,ctypes.c_char_p]
ARCH={'x86_64':0xc000003e,'x86':0x40000003,'x32':0x4000003e,'aarch64':0xc00000b7,'arm':0x40000028,'riscv64':0xc00000f3}
path=subprocess.run("ldconfig -p | awk '/libseccomp.so.2/{print $NF;exit}'",shell=True,capture_output=True,text=True).stdout.strip()
data=open(path,'rb').read()
names=set(m.decode() for m in re.findall(rb'(?<=\0)[a-z_][a-z0-9_]*(?=\0)',data))
H='/usr/include/x86_64-linux-gnu/asm/'
hdr={}
for a,f in (('x86_64',H+'unistd_64.h'),('x86',H+'unistd_32.h'),('x32',H+'unistd_x32.h')):
    hdr[a]={}
    for l in open(f):
        m=re.match(r'#define __NR_(\w+)\s+\(?(?:__X32_SYSCALL_BIT \+ )?(\d+)\)?',l)
        if m: hdr[a][m[1]]=int(m[2])
    names|=set(hdr[a])
if __name__=='__main__':
    NEW=dict(cachestat=451,fchmodat2=452,futex_wake=454,futex_wait=455,futex_requeue=456,statmount=457,listmount=458,
      lsm_get_self_attr=459,lsm_set_self_attr=460,lsm_list_modules=461,mseal=462,setxattrat=463,getxattrat=464,
      listxattrat=465,removexattrat=466,open_tree_attr=467,file_getattr=468,file_setattr=469)
    EXTRA={'x86_64':dict(uretprobe=335),'riscv64':dict(riscv_hwprobe=258)}
    DOC={'x86_64':'x86_64 (`arch/x86/entry/syscalls/syscall_64.tbl`, ABIs common and 64)',
     'x86':'i386 (`arch/x86/entry/syscalls/syscall_32.tbl`)',
     'x32':'x32, with `__X32_SYSCALL_BIT` (0x4000_0000) included (`syscall_64.tbl`, ABIs common and x32)',
     'aarch64':'aarch64 (`include/uapi/asm-generic/unistd.h`)','arm':'32-bit ARM EABI (`arch/arm/tools/syscall.tbl` and the private range at 0xf0000)',
     'riscv64':'riscv64 (`include/uapi/asm-generic/unistd.h` and `arch/riscv`)'}
    allnames=set()
    for a,t in ARCH.items():
        bit=0x40000000 if a=='x32' else 0
        tab={}
        for n in names:
            r=L.seccomp_syscall_resolve_name_arch(t,n.encode())
            if r>=0: tab[n]=r
        for n,v in hdr.get(a,{}).items(): tab[n]=v|bit
        for n,v in NEW.items(): assert tab.get(n,v|bit)==v|bit,(a,n,tab[n]); tab[n]=v|bit
        tab.update(EXTRA.get(a,{}))
        allnames|=set(tab)
        with open(f'/tmp/seccomp-dev/src/plan/seccomp/syscalls_{a}.rs','w') as f:
            f.write(f'//! System call numbers of {DOC[a]},\n//! complete up to Linux 6.17. Sorted by name: [`super::arch`] looks names up by binary search.\n\n')
            f.write('pub(super) const TABLE: &[(&str, u32)] = &[\n')
            for n in sorted(tab): f.write(f'    ("{n}", {tab[n] if a!="x32" else "0x%x"%tab[n]}),\n')
            f.write('];\n')
        print(a,len(tab))
    # multiplexed names resolve to -1xx / -2xx on x86
    mux={n:L.seccomp_syscall_resolve_name_arch(ARCH['x86'],n.encode()) for n in names}
    mux={n:v for n,v in mux.items() if -300<v<=-100}
    print('mux',sorted(mux.items(),key=lambda x:-x[1]))
    foreign=sorted(n for n in names if n not in allnames and n not in mux and any(L.seccomp_syscall_resolve_name_arch(t,n.encode())!=-1 for t in ARCH.values()))
    print(len(foreign),' '.join(foreign))
