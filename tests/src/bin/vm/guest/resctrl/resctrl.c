// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * A stand-in for resctrl, for a processor that has nothing to control: the files and the rules of the kernel's
 * Documentation/arch/x86/resctrl.rst that a container runtime meets. One cache, four classes of service. What a class
 * has is kept and shown, and governs nothing. A process that is born is a member of what its parent is in.
 */
#include <linux/fs.h>
#include <linux/fs_context.h>
#include <linux/list.h>
#include <linux/magic.h>
#include <linux/module.h>
#include <linux/pid.h>
#include <linux/sched.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/tracepoint.h>
#include <linux/uaccess.h>

#define CLASSES 4
#define MEMBERS 64
#define WHOLE_CACHE 0xfffff
#define BANDWIDTH_STEP 10

struct group {
	struct list_head all;
	/* The class of service that it watches a part of; none for a class. */
	struct group *above;
	struct dentry *files[4];
	int file_count;
	unsigned int cache, bandwidth;
	struct pid *members[MEMBERS];
};

static LIST_HEAD(groups);
/* Not a mutex: births are told where nothing may sleep. */
static DEFINE_SPINLOCK(lock);
static char status[80] = "ok";

static int refuse(int error, const char *words)
{
	strscpy(status, words, sizeof(status));
	return error;
}

static void leave(struct group *group, struct pid *pid)
{
	int i;

	for (i = 0; i < MEMBERS; i++)
		if (group->members[i] == pid) {
			put_pid(group->members[i]);
			group->members[i] = NULL;
		}
}

static bool has(struct group *group, struct pid *pid)
{
	int i;

	for (i = 0; i < MEMBERS; i++)
		if (group->members[i] == pid)
			return true;
	return false;
}

static int enter(struct group *group, struct pid *pid)
{
	int i;

	for (i = 0; i < MEMBERS; i++)
		if (!group->members[i] || !pid_task(group->members[i], PIDTYPE_PID)) {
			put_pid(group->members[i]);
			group->members[i] = get_pid(pid);
			return 0;
		}
	return refuse(-ENOSPC, "Out of memory");
}

static int join(struct group *group, struct pid *pid)
{
	struct group *other;

	if (group->above && !has(group->above, pid))
		return refuse(-EINVAL, "Can't move task to different control group");
	list_for_each_entry(other, &groups, all)
		if (other->above || !group->above)
			leave(other, pid);
	return enter(group, pid);
}

static void born(void *unused, struct task_struct *parent, struct task_struct *child)
{
	struct group *group;

	spin_lock(&lock);
	rcu_read_lock();
	list_for_each_entry(group, &groups, all)
		if (has(group, task_pid(parent)))
			enter(group, task_pid(child));
	rcu_read_unlock();
	spin_unlock(&lock);
}

static void watch_births(struct tracepoint *tracepoint, void *found)
{
	if (!strcmp(tracepoint->name, "sched_process_fork") && !tracepoint_probe_register(tracepoint, born, NULL))
		*(bool *)found = true;
}

static int set_lines(struct group *group, char *text)
{
	char *line;
	unsigned int value;

	while ((line = strsep(&text, "\n"))) {
		if (!*line)
			continue;
		if (sscanf(line, "L3:0=%x", &value) == 1) {
			if (!value || value > WHOLE_CACHE)
				return refuse(-EINVAL, "Mask out of range");
			group->cache = value;
		} else if (sscanf(line, "MB:0=%u", &value) == 1) {
			if (value < 10 || value > 100)
				return refuse(-EINVAL, "MB value out of range [10,100]");
			group->bandwidth = roundup(value, BANDWIDTH_STEP);
		} else {
			return refuse(-EINVAL, "Unknown or unsupported resource name");
		}
	}
	return 0;
}

static ssize_t take(struct file *file, const char __user *from, size_t length, loff_t *at,
		    int (*set)(struct group *, char *))
{
	struct group *group = file_inode(file)->i_private;
	char *text = memdup_user_nul(from, min_t(size_t, length, PAGE_SIZE));
	int error;

	if (IS_ERR(text))
		return PTR_ERR(text);
	spin_lock(&lock);
	strscpy(status, "ok", sizeof(status));
	error = set(group, text);
	spin_unlock(&lock);
	kfree(text);
	return error ?: length;
}

static int add_member(struct group *group, char *text)
{
	struct pid *pid;
	int number, error;

	if (kstrtoint(strstrip(text), 0, &number) || number < 0)
		return refuse(-EINVAL, "Invalid pid");
	rcu_read_lock();
	pid = number ? find_vpid(number) : task_pid(current);
	error = pid ? join(group, pid) : -ESRCH;
	rcu_read_unlock();
	return error;
}

static int set_schemata(struct group *group, char *text)
{
	size_t length = strlen(text);

	if (!length || text[length - 1] != '\n')
		return refuse(-EINVAL, "no newline");
	return set_lines(group, text);
}

static ssize_t tasks_write(struct file *file, const char __user *from, size_t length, loff_t *at)
{
	return take(file, from, length, at, add_member);
}

static ssize_t schemata_write(struct file *file, const char __user *from, size_t length, loff_t *at)
{
	return take(file, from, length, at, set_schemata);
}

static int tasks_show(struct seq_file *out, void *unused)
{
	struct group *group = out->private;
	int i;

	spin_lock(&lock);
	rcu_read_lock();
	for (i = 0; i < MEMBERS; i++)
		if (group->members[i] && pid_task(group->members[i], PIDTYPE_PID))
			seq_printf(out, "%d\n", pid_vnr(group->members[i]));
	rcu_read_unlock();
	spin_unlock(&lock);
	return 0;
}

static int schemata_show(struct seq_file *out, void *unused)
{
	struct group *group = out->private;

	seq_printf(out, "    MB:0=%4u\n    L3:0=%05x\n", group->bandwidth, group->cache);
	return 0;
}

static int status_show(struct seq_file *out, void *unused)
{
	seq_printf(out, "%s\n", status);
	return 0;
}

static int mask_show(struct seq_file *out, void *unused)
{
	seq_printf(out, "%x\n", WHOLE_CACHE);
	return 0;
}

static int step_show(struct seq_file *out, void *unused)
{
	seq_printf(out, "%d\n", BANDWIDTH_STEP);
	return 0;
}

static int used_show(struct seq_file *out, void *unused)
{
	seq_puts(out, "4096\n");
	return 0;
}

#define FILE_OPERATIONS(name, writer)                                  \
	static int name##_open(struct inode *inode, struct file *file) \
	{                                                              \
		return single_open(file, name##_show, inode->i_private); \
	}                                                              \
	static const struct file_operations name##_operations = {      \
		.open = name##_open,                                   \
		.read = seq_read,                                      \
		.write = writer,                                       \
		.llseek = seq_lseek,                                   \
		.release = single_release,                             \
	}

FILE_OPERATIONS(tasks, tasks_write);
FILE_OPERATIONS(schemata, schemata_write);
FILE_OPERATIONS(status, NULL);
FILE_OPERATIONS(mask, NULL);
FILE_OPERATIONS(step, NULL);
FILE_OPERATIONS(used, NULL);

static struct inode *node(struct super_block *sb, umode_t mode, struct group *group)
{
	struct inode *inode = new_inode(sb);

	if (!inode)
		return NULL;
	inode->i_ino = get_next_ino();
	inode->i_mode = mode;
	inode->i_atime = inode->i_mtime = inode->i_ctime = current_time(inode);
	inode->i_private = group;
	if (S_ISDIR(mode)) {
		inode->i_op = &simple_dir_inode_operations;
		inode->i_fop = &simple_dir_operations;
	}
	return inode;
}

/* The name stays in memory until it is removed: there is no disk to read it from. */
static struct dentry *add(struct dentry *above, const char *name, const struct file_operations *operations,
			  struct group *group)
{
	struct dentry *dentry = d_alloc_name(above, name);
	umode_t mode = operations ? S_IFREG | (operations->write ? 0644 : 0444) : S_IFDIR | 0755;
	struct inode *inode = dentry ? node(above->d_sb, mode, group) : NULL;

	if (!inode)
		return NULL;
	if (operations)
		inode->i_fop = operations;
	d_add(dentry, inode);
	if (group && group->file_count < ARRAY_SIZE(group->files))
		group->files[group->file_count++] = dentry;
	return dentry;
}

static const struct inode_operations class_parent, watch_parent;

static struct group *new_group(struct group *above)
{
	struct group *group = kzalloc(sizeof(*group), GFP_ATOMIC);

	if (!group)
		return NULL;
	group->above = above;
	group->cache = WHOLE_CACHE;
	group->bandwidth = 100;
	list_add(&group->all, &groups);
	return group;
}

static int fill(struct dentry *directory, struct group *group)
{
	struct dentry *inner;

	add(directory, "tasks", &tasks_operations, group);
	inner = add(directory, "mon_data", NULL, NULL);
	inner = inner ? add(inner, "mon_L3_00", NULL, NULL) : NULL;
	if (!inner || !add(inner, "llc_occupancy", &used_operations, NULL))
		return -ENOMEM;
	if (group->above)
		return 0;
	add(directory, "schemata", &schemata_operations, group);
	inner = add(directory, "mon_groups", NULL, group);
	if (!inner)
		return -ENOMEM;
	d_inode(inner)->i_op = &watch_parent;
	return 0;
}

static int make(struct user_namespace *users, struct inode *above, struct dentry *dentry, umode_t mode)
{
	/* The directory of groups that watch is its class's, that of classes nobody's. */
	struct group *class = above->i_private, *group, *other;
	struct inode *inode;
	int count = 0;

	spin_lock(&lock);
	strscpy(status, "ok", sizeof(status));
	list_for_each_entry(other, &groups, all)
		count += !other->above;
	if (!class && count >= CLASSES) {
		spin_unlock(&lock);
		return refuse(-ENOSPC, "Out of CLOSIDs");
	}
	group = new_group(class);
	spin_unlock(&lock);
	inode = group ? node(above->i_sb, S_IFDIR | 0755, group) : NULL;
	if (!inode)
		return -ENOMEM;
	d_instantiate(dentry, inode);
	dget(dentry);
	return fill(dentry, group);
}

/* As the kernel's: with all that is in it, and whoever is a member is one of the first class again. */
static void discard(struct dentry *directory)
{
	struct dentry *child, *next;
	LIST_HEAD(children);

	list_for_each_entry_safe(child, next, &directory->d_subdirs, d_child) {
		if (!simple_positive(child))
			continue;
		if (d_is_dir(child))
			discard(child);
		d_drop(child);
		dput(child);
	}
}

static int destroy(struct inode *above, struct dentry *dentry)
{
	struct group *gone = d_inode(dentry)->i_private, *group, *next;
	int i;

	if (!gone || d_inode(dentry)->i_op == &watch_parent)
		return -EPERM;
	spin_lock(&lock);
	list_for_each_entry_safe(group, next, &groups, all)
		if (group == gone || group->above == gone) {
			list_del(&group->all);
			for (i = 0; i < MEMBERS; i++)
				put_pid(group->members[i]);
			/* Not freed: a file of it may be open. */
			memset(group->members, 0, sizeof(group->members));
		}
	spin_unlock(&lock);
	discard(dentry);
	dput(dentry);
	return 0;
}

static const struct inode_operations class_parent = { .lookup = simple_lookup, .mkdir = make, .rmdir = destroy };
static const struct inode_operations watch_parent = { .lookup = simple_lookup, .mkdir = make, .rmdir = destroy };

static const struct super_operations operations = { .statfs = simple_statfs, .drop_inode = generic_delete_inode };

static int begin(struct super_block *sb, struct fs_context *context)
{
	struct group *first = new_group(NULL);
	struct dentry *info, *cache, *inner;
	struct inode *root;

	sb->s_magic = RDTGROUP_SUPER_MAGIC;
	sb->s_op = &operations;
	root = node(sb, S_IFDIR | 0755, NULL);
	if (!first || !root)
		return -ENOMEM;
	root->i_op = &class_parent;
	sb->s_root = d_make_root(root);
	if (!sb->s_root)
		return -ENOMEM;
	info = add(sb->s_root, "info", NULL, NULL);
	cache = info ? add(info, "L3", NULL, NULL) : NULL;
	inner = info ? add(info, "L3_MON", NULL, NULL) : NULL;
	if (!cache || !inner || !add(info, "last_cmd_status", &status_operations, NULL))
		return -ENOMEM;
	add(cache, "cbm_mask", &mask_operations, NULL);
	inner = add(info, "MB", NULL, NULL);
	if (!inner || !add(inner, "bandwidth_gran", &step_operations, NULL))
		return -ENOMEM;
	return fill(sb->s_root, first);
}

static int get_tree(struct fs_context *context)
{
	return get_tree_single(context, begin);
}

static const struct fs_context_operations context_operations = { .get_tree = get_tree };

static int init_context(struct fs_context *context)
{
	context->ops = &context_operations;
	return 0;
}

static struct file_system_type type = {
	.owner = THIS_MODULE,
	.name = "resctrl",
	.init_fs_context = init_context,
	.kill_sb = kill_litter_super,
};

static int __init start(void)
{
	bool found = false;

	for_each_kernel_tracepoint(watch_births, &found);
	return found ? register_filesystem(&type) : -ENOENT;
}

module_init(start);
MODULE_DESCRIPTION("A stand-in for resctrl, for tests");
MODULE_LICENSE("Dual MIT/GPL");
