/* Lines that are longer than any buffer on their way to the console: each comes out as one line. */
#include <stdio.h>

int main(void)
{
	static const int lengths[] = {1, 239, 240, 241, 480, 1000, 3000};
	for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
		for (int left = lengths[i]; left > 0; left--)
			putchar(left % 10 ? '.' : '0' + left / 10 % 10);
		putchar('\n');
	}
	/* Two bytes to a character: none is cut. */
	for (int i = 0; i < 500; i++)
		fputs("\u00e9", stdout);
	puts("");
	return 0;
}
