#include <stdio.h>
#include <unistd.h>

int main(int count, char **arguments) {
    for (int number = 1; number < count; number++) printf("hello, %s, from user %d\n", arguments[number], (int)getuid());
    return 0;
}
