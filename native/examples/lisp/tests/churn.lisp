; Allocates far more than ten times the heap (run with --max 8M: the tests do).
(define (tree depth) (if (= depth 0) '() (cons (tree (- depth 1)) (tree (- depth 1)))))
(define (count t) (if (null? t) 1 (+ (count (car t)) (count (cdr t)))))
(define kept (tree 13))
(define i 0)
(define total 0)
(while (< i 120) (set! total (+ total (count (tree 11)))) (set! i (+ i 1)))
(print "trees" total (count kept))

; A window of the newest values: everything is born young, lives a while and dies old.
(define window (make-vector 2000 '()))
(define (step n) (vector-set! window (modulo n 2000) (vector n (number->string n) (list n n n))))
(set! i 0)
(while (< i 30000) (step i) (set! i (+ i 1)))
(define (check k bad)
  (if (= k 2000) bad
      (let ((v (vector-ref window k)))
        (check (+ k 1)
               (if (and (string=? (vector-ref v 1) (number->string (vector-ref v 0)))
                        (equal? (vector-ref v 2) (list (vector-ref v 0) (vector-ref v 0) (vector-ref v 0)))
                        (= k (modulo (vector-ref v 0) 2000)))
                   bad (+ bad 1))))))
(print "window" (check 0 0))

; Large vectors come and go; each holds the one before for a while.
(define (chain n previous) (if (= n 0) previous (let ((v (make-vector 2000 n))) (vector-set! v 0 (if (= 0 (modulo n 10)) '() previous)) (chain (- n 1) v))))
(define end (chain 500 '()))
(print "chain" (vector-ref end 1) (vector-ref (vector-ref end 0) 1))

; More than fits: an error, and then the heap is there again.
(define (hoard l) (hoard (cons (make-vector 1000 l) l)))
(hoard '())
(print "after" (count kept) (heap-verify))
(make-vector 100000000)
(make-string 900000000)
(print "after that" (count kept) (heap-verify))
(define (get name l) (if (eq? (car (car l)) name) (cdr (car l)) (get name (cdr l))))
(print "allocated more than ten heaps:" (> (get 'allocated-bytes (heap-stats)) (* 10 (get 'heap-max-bytes (heap-stats)))))
