/* test_bill_fixture.h: what the tests of bill and limits share. */
#ifndef TEST_BILL_FIXTURE_H
#define TEST_BILL_FIXTURE_H

/* A fresh directory on a real disk under build/tmp. */
void bill_dir_make(char ret[64]);
/* How many descriptors this process has open. */
unsigned bill_fds_open(void);

#endif
