module example.com/testprogs

go 1.18
