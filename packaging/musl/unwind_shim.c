/*
 * What gcc's unwinder (libgcc_eh.a, made for glibc) lacks in a static program on musl.
 *
 * It looks for the unwind table of a program counter by glibc's _dl_find_object: here by dl_iterate_phdr, which musl has.
 * And it names the pthread functions weakly, so that a static link leaves them out and the first panic that is caught
 * calls address 0: the table at the end keeps them in.
 */
#define _GNU_SOURCE
#include <link.h>
#include <pthread.h>

/* As in glibc 2.35's <dlfcn.h>. */
struct dl_find_object {
	unsigned long long flags;
	void *map_start, *map_end;
	struct link_map *link_map;
	void *eh_frame;
	unsigned long long reserved[7];
};

struct query {
	unsigned long pc;
	struct dl_find_object *out;
	int found;
};

static int look(struct dl_phdr_info *object, size_t size, void *data)
{
	struct query *query = data;
	const ElfW(Phdr) *table = 0, *hit = 0;
	(void)size;
	for (int i = 0; i < object->dlpi_phnum; i++) {
		const ElfW(Phdr) *header = &object->dlpi_phdr[i];
		if (header->p_type == PT_LOAD &&
		    query->pc - (object->dlpi_addr + header->p_vaddr) < header->p_memsz)
			hit = header;
		if (header->p_type == PT_GNU_EH_FRAME)
			table = header;
	}
	if (!hit || !table)
		return 0;
	query->out->flags = 0;
	query->out->link_map = 0;
	query->out->map_start = (void *)(object->dlpi_addr + hit->p_vaddr);
	query->out->map_end = (void *)(object->dlpi_addr + hit->p_vaddr + hit->p_memsz);
	query->out->eh_frame = (void *)(object->dlpi_addr + table->p_vaddr);
	query->found = 1;
	return 1;
}

int _dl_find_object(void *pc, struct dl_find_object *out)
{
	struct query query = { (unsigned long)pc, out, 0 };
	dl_iterate_phdr(look, &query);
	return query.found ? 0 : -1;
}

int __pthread_key_create(pthread_key_t *, void (*)(void *));

__attribute__((used)) static void *const keep[] = {
	(void *)pthread_once,        (void *)pthread_key_create,  (void *)__pthread_key_create,
	(void *)pthread_getspecific, (void *)pthread_setspecific, (void *)pthread_mutex_lock,
	(void *)pthread_mutex_unlock,
};
