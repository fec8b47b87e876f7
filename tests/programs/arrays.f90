! build: -fopenmp
! Array syntax, allocation, formatted and unformatted files, and a parallel loop.
program arrays
  implicit none
  integer, parameter :: n = 100
  real(8), allocatable :: a(:,:), b(:,:), c(:,:)
  real(8) :: total
  integer :: i, j, number
  character(len=40) :: line
  allocate(a(n,n), b(n,n), c(n,n))
  do j = 1, n
     do i = 1, n
        a(i,j) = i + 0.25d0 * j
        b(i,j) = merge(2.0d0, 0.0d0, i == j)
     end do
  end do
  c = matmul(a, b)
  print '(a,f12.3)', 'sum ', sum(c) / 2
  total = 0
  !$omp parallel do reduction(+:total)
  do i = 1, n
     total = total + c(i,i)
  end do
  print '(a,f12.3)', 'trace ', total
  open(10, file='/tmp/arrays.txt')
  write(10, '(a,i5)') 'hello', 42
  close(10)
  open(10, file='/tmp/arrays.txt', status='old')
  read(10, '(a)') line
  close(10, status='delete')
  print '(a)', trim(line)
  open(11, file='/tmp/arrays.bin', form='unformatted')
  write(11) c(1,:), 4711
  close(11)
  open(11, file='/tmp/arrays.bin', form='unformatted', status='old')
  read(11) a(1,:), number
  close(11, status='delete')
  print '(a,l2,i6)', 'same', all(a(1,:) == c(1,:)), number
end program arrays
